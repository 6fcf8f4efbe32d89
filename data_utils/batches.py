"""Token ids, made once; batches of reviews of similar length.

    texts -> token ids, cut at `max_tokens`             once, kept in the cache of `datasets`
          -> lists of indices, one a batch              anew each epoch, from the seed alone
          -> input_ids, attention_mask (N, T), labels (N,)      T: the longest of the batch

Attention and matrix products cost what T says, pads included: batches of similar length cost
little more than the real tokens.
"""

import hashlib
from pathlib import Path

import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

CHUNK = 16  # batches sorted by length together: more sorts better, less shuffles better


class TokenisedReviews:
    """The token ids and labels of one split."""

    def __init__(self, token_ids, labels: torch.Tensor, pad_id: int, truncated: float = 0.0):
        self.token_ids = token_ids  # one integer tensor a review
        self.labels = labels
        self.pad_id = pad_id
        self.truncated = truncated  # share of the reviews that were cut
        self.lengths = np.array([len(ids) for ids in token_ids])

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """input_ids and attention_mask (N, T) of the reviews at `index`, padded on the right."""
        ids = pad_sequence([self.token_ids[i] for i in index], True, self.pad_id)
        lengths = torch.from_numpy(self.lengths[index])
        return ids.long(), (torch.arange(ids.shape[1]) < lengths[:, None]).long()


def tokenise(reviews: datasets.Dataset, tokenizer, max_tokens: int) -> TokenisedReviews:
    """Tokenise columns `text`, `label` with a fast transformers tokenizer, through the cache."""

    def token_ids(batch):
        encoded = tokenizer(batch["text"], truncation=True, max_length=max_tokens)
        cut = [bool(encoding.overflowing) for encoding in encoded.encodings]
        return {"input_ids": encoded["input_ids"], "cut": cut}

    # The cache's name holds all that the result depends on: its columns, the tokenizer with its
    # truncation, which is part of its state once it has been used, and the texts.
    token_ids({"text": [""]})
    columns = datasets.Features(
        input_ids=datasets.List(datasets.Value("int32")), cut=datasets.Value("bool")
    )
    key = hashlib.sha256(f"{columns}\0{tokenizer.backend_tokenizer.to_str()}".encode())
    for text in reviews["text"]:
        key.update(text.encode() + b"\0")
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "token_ids"
    cache.mkdir(parents=True, exist_ok=True)
    tokenised = reviews.map(
        token_ids,
        batched=True,
        remove_columns=["text", "label"],
        features=columns,
        cache_file_name=str(cache / f"{key.hexdigest()[:32]}.arrow"),
        new_fingerprint=key.hexdigest()[:32],
        desc="tokenising",
    )
    ids = tokenised.data["input_ids"].combine_chunks()
    flat = torch.from_numpy(ids.flatten().to_numpy().copy())
    return TokenisedReviews(
        token_ids=flat.split(ids.value_lengths().to_pylist()),
        labels=torch.tensor(reviews["label"][:]),  # not from the cache, which knows only texts
        pad_id=tokenizer.pad_token_id,
        truncated=float(np.mean(tokenised["cut"][:])),
    )


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Indices of the batches of one epoch: similar lengths together, in random order.

    The reviews are shuffled, sorted by length within chunks of `CHUNK` batches, cut into
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


def pieces(lengths: np.ndarray, index: np.ndarray, most_tokens: int) -> list[np.ndarray]:
    """`index` in pieces of at most `most_tokens` tokens, pads included, or of one review.

    The longest reviews come first, so that memory is at its peak at once.
    """
    order = index[np.argsort(-lengths[index], kind="stable")]
    parts, start = [], 0
    while start < len(order):
        reviews = max(1, most_tokens // lengths[order[start]])
        parts.append(order[start : start + reviews])
        start += reviews
    return parts
