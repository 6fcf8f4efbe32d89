"""Batches hold every text once, are of similar length, and depend on the seed alone."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import reviews_frame
from transformers import AutoTokenizer

from data_utils import Split, batches, tokenise, training_batches
from modeling import inference

TEXTS, LABELS = reviews_frame(50)["text"].tolist(), reviews_frame(50)["label"].tolist()


@pytest.fixture
def tokenizer(model_folder):
    """A function: the tiny model's tokenizer with a length and a side of truncation."""

    def load(max_tokens=9, side="right"):
        sides = {"truncation_side": side, "padding_side": "right"}
        return AutoTokenizer.from_pretrained(model_folder, model_max_length=max_tokens, **sides)

    return load


def split_of(lengths):
    """A split of random token ids of these lengths, with labels."""
    random = torch.Generator().manual_seed(0)
    return Split(
        texts=[f"text {i}" for i in range(len(lengths))],
        labels=torch.randint(0, 3, (len(lengths),), generator=random),
        token_ids=torch.randint(1, 99, (sum(lengths),), generator=random).int(),
        lengths=np.array(lengths),
        pad_id=7,
        truncated=np.arange(len(lengths)) % 3 == 0,
        rows=np.arange(len(lengths)),
        groups=[f"g{i}" for i in range(len(lengths))],
    )


def test_results_of_earlier_batches_are_not_kept():
    results, alive = [], []

    def compute(batch):
        alive.append(sum(result() is not None for result in results))
        lengths = batch.attention_mask.sum(1, keepdim=True).float()
        results.append(weakref.ref(lengths))
        return lengths

    lengths = np.random.default_rng(0).integers(5, 500, 77)
    assert inference._all(compute, split_of(lengths), 600, (1,))[:, 0].tolist() == lengths.tolist()
    assert len(results) > 9 and not any(alive)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_every_text_is_in_just_one_batch(batch_size):
    lengths = np.random.default_rng(0).integers(5, 500, 777)
    batches = training_batches(lengths, batch_size, seed=3, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(777))
    assert max(len(batch) for batch in batches) <= batch_size


@pytest.mark.parametrize("most", [1, 600, 2048, 10**9])
def test_micro_batches_hold_every_text_once_and_no_more_tokens_than_allowed(most):
    lengths = np.random.default_rng(0).integers(5, 500, 777)
    index = np.random.default_rng(1).permutation(777)[:300]
    parts = split_of(lengths).micro_batches(index, most)
    assert sorted(np.concatenate(parts)) == sorted(index)
    assert all(len(part) == 1 or len(part) * lengths[part].max() <= most for part in parts)
    assert all(np.diff(lengths[np.concatenate(parts)]) <= 0)
    assert (len(parts) == 1) == (most == 10**9)


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
    batches = training_batches(lengths, 32, 0, 1)
    assert sum(len(batch) * lengths[batch].max() for batch in batches) < 1.08 * lengths.sum()


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Frozen:
    """Output of frozen blocks that tells which of the task's texts it is of."""

    def batch(self, rows, device):
        return None, torch.from_numpy(rows).to(device)


def test_only_from_pinned_memory_a_copy_may_outlive_its_source(monkeypatch):
    """Pageable memory that is freed before its copy gives other tokens (pytorch/pytorch#189690)."""
    waits, to = [], torch.Tensor.to

    def copy(tensor, device, non_blocking=False):
        waits.append(not non_blocking or tensor.is_pinned())
        return to(tensor, device)

    split = split_of([4, 1, 9]).to(torch.device("cpu"))
    monkeypatch.setattr(torch.Tensor, "to", copy)
    split.batch(np.array([0, 2]))
    assert waits == [True]


@pytest.mark.parametrize("device", DEVICES)
def test_texts_that_are_taken_keep_all_that_belongs_to_them(device):
    whole = replace(split_of([4, 1, 9, 2, 7, 3]).to(device), frozen=Frozen())
    index = np.array([5, 2, 4])
    taken = whole.take(index)
    assert taken.texts == ["text 5", "text 2", "text 4"] and taken.groups == ["g5", "g2", "g4"]
    assert taken.lengths.tolist() == [3, 9, 7] and taken.token_ids.device.type == device
    assert taken.truncated.tolist() == [False, False, False] and taken.truncated_share == 0
    assert len(taken) == 3 and whole.truncated_share == pytest.approx(1 / 3)
    for found, tensor in zip(taken.batch(np.arange(3))[:3], whole.batch(index)[:3], strict=True):
        assert torch.equal(found, tensor)
    again = taken.take(np.array([1, 2]))  # the second and the third of those
    assert again.rows.tolist() == [2, 4]
    assert again.batch(np.array([1, 0])).frozen[1].tolist() == [4, 2]  # by place in the task
    assert len(whole.take(np.array([], int))) == 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_are_truncated_and_padded_as_the_tokenizer_does(tokenizer, side):
    split = tokenise(TEXTS, LABELS, tokenizer(9, side), groups=iter("ab" * 25))
    assert split.groups == list("ab" * 25)
    index = np.array([4, 0, 33])
    batch, texts = split.batch(index), [TEXTS[i] for i in index]
    assert [split.texts[i] for i in index] == texts
    expected = tokenizer(9, side)(texts, truncation=True, padding=True, return_tensors="pt")
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])
    assert batch.labels.tolist() == [LABELS[i] for i in index] and batch.frozen is None
    whole = [len(ids) for ids in tokenizer()(TEXTS)["input_ids"]]
    assert split.truncated.tolist() == [length > 9 for length in whole]
    assert 0 < split.truncated_share < 1


def test_new_texts_need_no_labels_and_may_be_none(tokenizer, monkeypatch):
    split = tokenise(TEXTS, None, tokenizer(9))
    assert split.texts == TEXTS and split.rows.tolist() == list(range(50))
    assert set(split.labels.tolist()) == {torch.nn.CrossEntropyLoss().ignore_index}
    assert len(tokenise([], [], tokenizer(9))) == 0
    sizes, kind, call = [], type(tokenizer()), type(tokenizer()).__call__
    monkeypatch.setattr(kind, "__call__", lambda *a, **k: sizes.append(a[1]) or call(*a, **k))
    monkeypatch.setattr(batches, "AT_ONCE", 7)
    assert torch.equal(tokenise(TEXTS, None, tokenizer(9)).token_ids, split.token_ids)
    assert sum(sizes, []) == TEXTS and max(map(len, sizes)) == 7
