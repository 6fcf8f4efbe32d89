"""Batches hold every review once, are of similar length, and depend on the seed alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import reviews_frame
from datasets import ClassLabel, Dataset, Features, Value
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from data_utils import Rows, Split, micro_batches, tokenise, training_batches


@pytest.fixture
def reviews():
    features = Features(text=Value("string"), label=ClassLabel(names=["bad", "good"]))
    return Dataset.from_pandas(reviews_frame(50), features, preserve_index=False)


@pytest.fixture
def tokenizer(model_folder):
    """A function: the tiny model's tokenizer with a length and a side of truncation."""

    def load(max_tokens=9, side="right", kind=AutoTokenizer):
        return kind.from_pretrained(
            model_folder, model_max_length=max_tokens, truncation_side=side, padding_side="right"
        )

    return load


def split_of(lengths):
    """A split of random token ids of these lengths, with labels."""
    random = torch.Generator().manual_seed(0)
    return Split(
        texts=[""] * len(lengths),
        labels=torch.randint(0, 3, (len(lengths),), generator=random),
        token_ids=torch.randint(1, 99, (sum(lengths),), generator=random).int(),
        lengths=np.array(lengths),
        pad_id=7,
    )


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_every_review_is_in_just_one_batch(batch_size):
    lengths = np.random.default_rng(0).integers(5, 500, 777)
    batches = training_batches(lengths, batch_size, seed=3, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(777))
    assert max(len(batch) for batch in batches) <= batch_size


@pytest.mark.parametrize("most", [1, 600, 2048, 10**9])
def test_micro_batches_hold_every_review_once_and_no_more_tokens_than_allowed(most):
    lengths = np.random.default_rng(0).integers(5, 500, 777)
    index = np.random.default_rng(1).permutation(777)[:300]
    parts = micro_batches(lengths, index, most)
    assert sorted(np.concatenate(parts)) == sorted(index)
    assert all(len(part) == 1 or len(part) * lengths[part].max() <= most for part in parts)
    assert all(np.diff(lengths[np.concatenate(parts)]) <= 0)
    if most == 10**9:
        assert len(parts) == 1


def test_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(5, 500, 300)
    orders = {}
    for seed, epoch in ((0, 1), (0, 2), (1, 1)):
        np.random.seed(epoch), torch.manual_seed(epoch)
        orders[seed, epoch] = np.concatenate(training_batches(lengths, 8, seed, epoch)).tolist()
    again = np.concatenate(training_batches(lengths, 8, 0, 1)).tolist()
    assert again == orders[0, 1]
    assert orders[0, 1] != orders[0, 2] != orders[1, 1] != orders[0, 1]


def test_padding_is_a_small_share():
    lengths = np.random.default_rng(0).lognormal(5.3, 0.6, 20_000).clip(10, 512).astype(int)

    def padded(batches):
        return sum(len(batch) * lengths[batch].max() for batch in batches) / lengths.sum()

    assert padded(training_batches(lengths, 32, 0, 1)) < 1.08
    unsorted = np.array_split(np.random.default_rng(0).permutation(20_000), 625)
    assert padded(unsorted) > 1.8


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def stored(split, path, lengths):
    """The split with random states, `lengths` vectors of each review, in the file `path`."""
    rows = Rows(path, np.array(lengths), 4, torch.float32)
    states = [torch.randn(length, 4) for length in lengths]
    order = np.array([2, 0, 5, 1, 4, 3])  # written in an order of its own, with other padding
    with path.open("wb") as file:
        for index in (order[:4], order[4:]):
            padded = pad_sequence([states[i] for i in index], batch_first=True, padding_value=3.0)
            rows.put(file, index, padded)
    return replace(split, frozen=(rows, None)), states


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("index", [[3, 0, 5], [1], [5, 4, 3, 2, 1, 0], [2, 2]])
def test_batch_is_what_pad_sequence_gives(index, pooled, device, tmp_path):
    lengths = [4, 1, 9, 2, 7, 3]
    vectors = [3] * 6 if pooled else lengths
    split, states = stored(split_of(lengths), tmp_path / "states", vectors)
    assert (tmp_path / "states").stat().st_size == sum(vectors) * 4 * 4
    batch = split.to(device).batch(np.array(index))
    reviews = [split.token_ids.split(split.lengths.tolist())[i].long() for i in index]
    ones = [torch.ones_like(review) for review in reviews]
    expected = (
        pad_sequence(reviews, batch_first=True, padding_value=7),
        pad_sequence(ones, batch_first=True),
        split.labels[index],
        pad_sequence([states[i] for i in index], batch_first=True),
    )
    assert batch.frozen[1] is None
    for found, tensor in zip((*batch[:3], batch.frozen[0]), expected, strict=True):
        assert found.device.type == device and found.dtype == tensor.dtype
        assert torch.equal(found.cpu(), tensor)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_is_what_the_tokenizer_pads(reviews, tokenizer, side):
    split = tokenise(reviews, tokenizer(9, side))
    index = np.array([4, 0, 33])
    batch = split.batch(index)
    texts = [reviews["text"][int(i)] for i in index]
    assert [split.texts[i] for i in index] == texts
    expected = tokenizer(9, side)(texts, truncation=True, padding=True, return_tensors="pt")
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])
    assert batch.labels.tolist() == [reviews["label"][int(i)] for i in index]


def test_truncation_takes_the_beginning_or_the_end(reviews, tokenizer):
    whole = tokenise(reviews, tokenizer(18))
    i = int(whole.lengths.argmax())
    ids = whole.batch(np.array([i])).input_ids[0]
    left = tokenise(reviews, tokenizer(7, "left")).batch(np.array([i])).input_ids[0]
    right = tokenise(reviews, tokenizer(7, "right")).batch(np.array([i])).input_ids[0]
    assert torch.equal(left, torch.cat([ids[:1], ids[-6:]]))  # [CLS], the last tokens
    assert torch.equal(right, torch.cat([ids[:6], ids[-1:]]))  # the first ones, [SEP]


def test_share_that_was_truncated_is_counted(reviews, tokenizer):
    whole = [len(ids) for ids in tokenizer()(list(reviews["text"]))["input_ids"]]
    share = np.mean([length > 9 for length in whole])
    assert 0 < share < 1
    for side in ("left", "right"):
        assert tokenise(reviews, tokenizer(9, side)).truncated == pytest.approx(share)
