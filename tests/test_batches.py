"""Batches hold every review once, are of similar length, and depend on the seed alone."""

import time

import numpy as np
import pytest
import torch
from conftest import reviews_frame
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoTokenizer

from data_utils import pieces, tokenise, training_batches


@pytest.fixture
def reviews():
    features = Features(text=Value("string"), label=ClassLabel(names=["bad", "good"]))
    return Dataset.from_pandas(reviews_frame(50), features, preserve_index=False)


@pytest.fixture
def tokenizer(model_folder):
    return AutoTokenizer.from_pretrained(model_folder)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_every_review_is_in_just_one_batch(batch_size):
    lengths = np.random.default_rng(0).integers(5, 500, 777)
    batches = training_batches(lengths, batch_size, seed=3, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(777))
    assert max(len(batch) for batch in batches) <= batch_size


@pytest.mark.parametrize("most", [1, 600, 2048, 10**9])
def test_pieces_hold_every_review_once_and_no_more_tokens_than_allowed(most):
    lengths = np.random.default_rng(0).integers(5, 500, 777)
    index = np.random.default_rng(1).permutation(777)[:300]
    parts = pieces(lengths, index, most)
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


def test_batch_is_what_the_tokenizer_pads(reviews, tokenizer):
    tokenised = tokenise(reviews, tokenizer, max_tokens=9)
    index = np.array([4, 0, 33])
    ids, mask = tokenised.batch(index)
    texts = [reviews["text"][int(i)] for i in index]
    expected = tokenizer(texts, truncation=True, max_length=9, padding=True, return_tensors="pt")
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"])
    assert tokenised.labels[index].tolist() == [reviews["label"][int(i)] for i in index]


def test_share_that_was_cut_is_counted(reviews, tokenizer):
    whole = [len(ids) for ids in tokenizer(list(reviews["text"]))["input_ids"]]
    share = np.mean([length > 9 for length in whole])
    assert 0 < share < 1
    assert tokenise(reviews, tokenizer, max_tokens=9).truncated == pytest.approx(share)


def test_second_time_comes_from_the_cache(reviews, tokenizer, model_folder):
    calls = []

    class Counting(type(tokenizer)):
        def __call__(self, texts, **how):
            calls.append(len(texts))
            return super().__call__(texts, **how)

    counting = Counting.from_pretrained(model_folder)
    marked = reviews.map(lambda row: {"text": f"{row['text']} {time.time_ns()}"})  # never seen
    first = tokenise(marked, counting, 10)
    assert sum(calls) == 1 + len(marked)
    second = tokenise(marked, counting, 10)
    assert sum(calls) == 2 + len(marked)
    assert all(map(torch.equal, first.token_ids, second.token_ids))
    tokenise(marked, counting, 8)
    assert sum(calls) == 3 + 2 * len(marked)


def test_labels_are_todays_though_the_texts_come_from_the_cache(reviews, tokenizer):
    first = tokenise(reviews, tokenizer, 10)
    flipped = reviews.map(lambda row: {"label": 1 - row["label"]})
    assert torch.equal(tokenise(flipped, tokenizer, 10).labels, 1 - first.labels)
