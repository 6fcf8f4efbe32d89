"""Token ids, made once; batches of reviews of similar length.

    texts -> token ids, truncated                       once
          -> lists of indices, one a batch              anew each epoch, from the seed alone
          -> input_ids, attention_mask (N, T), labels (N,)      T: the longest of the batch

Attention and matrix products cost what T says, padding included: batches of similar length cost
little more than the real tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from datasets.utils import tqdm
from torch import Tensor

from boundary import BadInput, reading

CHUNK = 16  # batches sorted by length together: more sorts better, less shuffles better


class Batch(NamedTuple):
    """What a model reads of N reviews, all on one device."""

    input_ids: Tensor  # (N, T) int64, padded on the right
    attention_mask: Tensor  # (N, T) int64: 1 for a real token, 0 for padding
    labels: Tensor  # (N,) int64
    frozen: tuple[Tensor | None, Tensor | None] | None  # as Split's, (N, T, d) and (N, R, d)

    @property
    def tokens(self) -> tuple[Tensor, Tensor]:
        """The token ids and their mask."""
        return self.input_ids, self.attention_mask


@dataclass(frozen=True, eq=False)
class Rows:
    """A file of vectors: some for each of n reviews, one review after another, without padding.

    Hidden states have one for each token, pooled features R for each review. The file is read and
    not mapped: a mapping would count as memory of the process.
    """

    path: Path
    lengths: np.ndarray  # (n,) vectors of each review
    width: int  # d
    dtype: torch.dtype

    @cached_property
    def places(self) -> np.ndarray:
        """(n,) the byte at which each review begins."""
        return (np.cumsum(self.lengths) - self.lengths) * self.width * self.dtype.itemsize

    def padded(self, index: np.ndarray, pinned: bool = False) -> Tensor:
        """The vectors of the reviews at `index` (N,), zeros after the last: (N, T, d)."""
        lengths = self.lengths[index]
        shape = len(index), int(lengths.max()), self.width
        padded = torch.zeros(shape, dtype=self.dtype, pin_memory=pinned)
        with self.path.open("rb", buffering=0) as file:
            for vectors, place, length in zip(padded, self.places[index], lengths, strict=True):
                file.seek(place)
                data = vectors[:length].view(torch.uint8).numpy()
                if file.readinto(data) != data.nbytes:
                    raise BadInput(f"{self.path} has been truncated; delete it")
        return padded

    def put(self, file, index: np.ndarray, padded: Tensor) -> None:
        """Write the vectors (N, T, d) of the reviews at `index` (N,) to the open file."""
        places, lengths = self.places[index], self.lengths[index]
        for vectors, place, length in zip(padded, places, lengths, strict=True):
            file.seek(place)
            file.write(vectors[:length].contiguous().view(torch.uint8).numpy())


@dataclass(frozen=True, eq=False)
class Split:
    """The n reviews of train, validation or test, as the model reads them.

    All of it fits on a GPU: the 25,000 reviews of IMDB are 25 MB of token ids.
    """

    texts: Sequence[str]
    labels: Tensor  # (n,) int64
    token_ids: Tensor  # (sum of the lengths,) int32, one review after another
    lengths: np.ndarray  # (n,) tokens of each review; on the host, where batches are planned
    pad_id: int
    truncated: float = 0.0  # share of the reviews that were truncated
    groups: list[str] | None = None  # (n,) of which film, patient or author each review is
    # What a model's frozen blocks make of them: hidden states, pooled features, or both.
    frozen: tuple[Rows | None, Rows | None] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> "Split":
        """The same split with its tensors on `device`."""
        tensors = {"labels": self.labels.to(device), "token_ids": self.token_ids.to(device)}
        return replace(self, **tensors)

    @cached_property
    def starts(self) -> np.ndarray:
        """(n,) where each review begins in `token_ids`."""
        return np.cumsum(self.lengths) - self.lengths

    def batch(self, index: np.ndarray) -> Batch:
        """The reviews at `index` (N,), gathered on the split's device; nothing waits for it."""
        device = self.token_ids.device
        rows = torch.from_numpy(np.stack([index, self.starts[index], self.lengths[index]]))
        if device.type == "cuda":
            rows = rows.pin_memory()  # so that the one small copy runs beside the computation
        rows, starts, lengths = rows.to(device, non_blocking=True)  # (N,) each
        places = torch.arange(self.lengths[index].max(), device=device)  # (T,)
        real = places < lengths[:, None]  # (N, T)
        ids = self.token_ids[torch.where(real, starts[:, None] + places, 0)].long()
        ids = torch.where(real, ids, self.pad_id)
        frozen = self.frozen and tuple(
            rows and rows.padded(index, device.type == "cuda").to(device, non_blocking=True)
            for rows in self.frozen
        )
        return Batch(ids, real.long(), self.labels[rows], frozen)


def tokenise(reviews: datasets.Dataset, tokenizer) -> Split:
    """Tokenise the texts, which have a label and perhaps a group, with a fast tokenizer.

    A review of more than `tokenizer.model_max_length` tokens is truncated on its
    `truncation_side`.
    """
    texts, ids, truncated = reviews["text"][:], [], []
    with reading(f"the texts with the tokenizer {tokenizer.name_or_path}", "set another MODEL"):
        for start in tqdm(range(0, len(texts), 1000), desc="tokenising"):
            encoded = tokenizer(texts[start : start + 1000], truncation=True)
            ids += [np.array(review, np.int32) for review in encoded["input_ids"]]
            truncated += [bool(encoding.overflowing) for encoding in encoded.encodings]
    return Split(
        texts=texts,
        labels=torch.tensor(reviews["label"][:]),
        token_ids=torch.from_numpy(np.concatenate(ids)),
        lengths=np.array([len(review) for review in ids]),
        pad_id=tokenizer.pad_token_id,
        truncated=float(np.mean(truncated)),
        groups=reviews["group"][:] if "group" in reviews.column_names else None,
    )


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Indices of the batches of one epoch: similar lengths together, in random order.

    The reviews are shuffled, sorted by length within chunks of `CHUNK` batches and divided into
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


def micro_batches(lengths: np.ndarray, index: np.ndarray, most_tokens: int) -> list[np.ndarray]:
    """`index` in parts of at most `most_tokens` tokens, padding included, or of one review.

    The longest reviews come first, so that memory is at its peak at once.
    """
    order = index[np.argsort(-lengths[index], kind="stable")]
    parts, start = [], 0
    while start < len(order):
        reviews = max(1, most_tokens // lengths[order[start]])
        parts.append(order[start : start + reviews])
        start += reviews
    return parts
