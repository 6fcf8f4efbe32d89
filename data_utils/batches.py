"""Token ids, made once; batches of texts of similar length.

    texts -> token ids, truncated                       once
          -> lists of indices, one a batch              anew each epoch, from the seed alone
          -> input_ids, attention_mask (N, T), labels (N,)      T: the longest of the batch

Padding costs as much as real tokens. So texts of similar length share a batch, and little of it is
padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from boundary import reading

CHUNK = 16  # batches sorted by length together: more sorts better, less shuffles better
AT_ONCE = 16  # texts that are tokenised together: memory suffices, were each of them a book


class Batch(NamedTuple):
    """The model's input for N texts, all on one device."""

    input_ids: Tensor  # (N, T) int64, padded on the right
    attention_mask: Tensor  # (N, T) int64: 1 for a real token, 0 for padding
    labels: Tensor  # (N,) int64
    # From frozen blocks: hidden states (N, T, d), None if all are frozen; pooled vectors (N, R, d).
    frozen: tuple[Tensor | None, Tensor] | None

    @property
    def tokens(self) -> tuple[Tensor, Tensor]:
        """The token ids and their mask."""
        return self.input_ids, self.attention_mask


@dataclass(frozen=True, eq=False)
class Split:
    """n texts with labels and token ids; on a GPU the 25,000 reviews of IMDB take 25 MB."""

    texts: list[str]
    labels: Tensor  # (n,) int64
    token_ids: Tensor  # (sum of the lengths,) int32, one text after another
    lengths: np.ndarray  # (n,) tokens of each text; on the host, where batches are planned
    pad_id: int
    truncated: np.ndarray  # (n,) whether the text was truncated
    rows: np.ndarray  # (n,) the place of each text among all texts of the task
    groups: list[str] | None = None  # (n,) the film, patient or author that each text belongs to
    frozen: Any = None  # output of frozen blocks: `.batch(rows, device)`, see `Batch`

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def truncated_share(self) -> float:
        """The share of the texts that were truncated."""
        return float(np.mean(self.truncated)) if len(self) else 0.0

    def to(self, device: torch.device | str) -> "Split":
        """The same split with its tensors on `device`."""
        return replace(self, labels=self.labels.to(device), token_ids=self.token_ids.to(device))

    @cached_property
    def starts(self) -> np.ndarray:
        """(n,) where each text begins in `token_ids`."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, index: np.ndarray) -> "Split":
        """The split of the texts at `index` (N,), in that order, on the same device."""
        lengths, device = self.lengths[index], self.token_ids.device
        shift = self.starts[index] - (np.cumsum(lengths) - lengths)  # from the new place to the old
        positions = torch.from_numpy(np.repeat(shift, lengths) + np.arange(lengths.sum()))
        return replace(
            self,
            texts=[self.texts[i] for i in index],
            labels=self.labels[torch.from_numpy(index).to(device)],
            token_ids=self.token_ids[positions.to(device)],
            lengths=lengths,
            truncated=self.truncated[index],
            rows=self.rows[index],
            groups=self.groups and [self.groups[i] for i in index],
        )

    def batch(self, index: np.ndarray) -> Batch:
        """The batch of the texts at `index` (N,), on the split's device; the CPU does not wait."""
        device = self.token_ids.device
        packed = torch.from_numpy(np.stack([index, self.starts[index], self.lengths[index]]))
        is_cuda = device.type == "cuda"  # elsewhere a copy that does not wait reads freed memory
        packed = packed.pin_memory() if is_cuda else packed
        chosen, starts, lengths = packed.to(device, non_blocking=is_cuda)  # (N,) each
        positions = torch.arange(self.lengths[index].max(), device=device)  # (T,)
        real = positions < lengths[:, None]  # (N, T)
        ids = self.token_ids[torch.where(real, starts[:, None] + positions, 0)].long()
        ids = torch.where(real, ids, self.pad_id)
        frozen = self.frozen and self.frozen.batch(self.rows[index], device)
        return Batch(ids, real.long(), self.labels[chosen], frozen)

    def micro_batches(self, index: np.ndarray, most_tokens: int) -> list[np.ndarray]:
        """`index` in parts: at most `most_tokens` tokens each, padding included, or one text.

        The longest texts come first, so that memory peaks at the start.
        """
        order = index[np.argsort(-self.lengths[index], kind="stable")]
        parts, start = [], 0
        while start < len(order):
            count = max(1, most_tokens // self.lengths[order[start]])
            parts.append(order[start : start + count])
            start += count
        return parts


def tokenise(texts: Sequence[str], labels: Sequence[int] | None, tokenizer, groups=None) -> Split:
    """Tokenise clean texts, in their order, with a fast tokenizer.

    A text of more than `tokenizer.model_max_length` tokens is truncated on the tokenizer's
    `truncation_side`. Without `labels` each label is -100, which no loss counts. Raises `BadInput`.
    """
    texts, ids, truncated = list(texts), [np.empty(0, np.int32)], []
    with reading(f"the texts with the tokenizer {tokenizer.name_or_path}", "give another --model"):
        starts = range(0, len(texts), AT_ONCE)
        for start in tqdm(starts, desc="tokenising", leave=False, disable=None):
            encoded = tokenizer(texts[start : start + AT_ONCE], truncation=True)
            ids += [np.array(text, np.int32) for text in encoded["input_ids"]]
            truncated += [bool(encoding.overflowing) for encoding in encoded.encodings]
    return Split(
        texts=texts,
        labels=torch.tensor([-100] * len(texts) if labels is None else [*labels]).long(),
        token_ids=torch.from_numpy(np.concatenate(ids)),
        lengths=np.array([len(text) for text in ids[1:]], int),
        pad_id=tokenizer.pad_token_id,
        truncated=np.array(truncated, bool),
        rows=np.arange(len(texts)),
        groups=None if groups is None else list(groups),
    )


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Indices of the batches of one epoch: similar lengths together, in random order.

    The texts are shuffled, sorted by length within chunks of `CHUNK` batches and divided into
    batches, and the batches are shuffled. The order depends on `seed` and `epoch` alone.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * CHUNK):
        chunk = order[start : start + batch_size * CHUNK]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]
