"""The blocks that do not learn: which they are, and that running them once changes nothing."""

import json
import multiprocessing
import shutil
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from test_finetuning import command, in_training, on_the_cpu, run_of, settings, tokenised  # noqa: F401
from torch.nn.functional import cross_entropy

import finetuning
import hardware
from boundary import BadInput
from data_utils import micro_batches
from experiment import FrozenStates, frozen
from modeling import METHODS
from modeling.architectures import ARCHITECTURES

L, d, f, m, r, kv = 4, 8, 12, 3, 2, 4  # blocks, width, feed-forward, bottleneck, rank, width of k
SIZES = {"adapter": {"bottleneck": m}, "lora": {"rank": r}, "bitfit": {}, "full": {}}

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of stored states, empty, and float32 as the type computed in."""
    monkeypatch.setattr(frozen.constants, "HF_HOME", str(tmp_path / "home"))
    for module in (hardware, frozen):
        monkeypatch.setattr(module, "compute_type", lambda device: torch.float32)
    return tmp_path / "home" / "frozen_blocks"


def model_of(method, family="bert", blocks=1, **changes):
    """A method on a tiny model in float32, with other than its initial weights."""
    torch.manual_seed(0)
    pretrained = tiny(family, **changes).float()
    model = METHODS[method](pretrained, blocks=blocks, **SIZES[method])
    for parameter in model.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def methods_of(family):
    without_biases = family in ("modernbert", "llama", "qwen3")
    return [method for method in SIZES if not (method == "bitfit" and without_biases)]


def states_of(model, split, compute=None, limit=40):
    """The split with its states, as `finetuning.with_states` gives it, and the seconds."""
    compute = compute or partial(finetuning.frozen_states, model)
    rows, seconds = FrozenStates(model, split, model.fingerprint).load(compute, limit, "states")
    return replace(split, states=rows), seconds


def parameters_of_a_block(family):
    """In closed form: what each method trains of a block after the first."""
    adapters = 2 * (2 * d * m + m + d)
    if family == "modernbert":  # no biases; q, k, v in one matrix, the gate in another
        lora = r * (d + 3 * d) + r * (d + d)
        return {
            "adapter": adapters + 2 * d,
            "lora": lora,
            "full": 4 * d * d + 3 * d * f + 2 * d,
        }
    if family in ("llama", "qwen2", "qwen3"):
        biases = {"qwen2": d + 2 * kv}.get(family, 0)
        norms = {"qwen3": 2 * kv}.get(family, 0)  # of q and k, in a head of width 4
        return {
            "adapter": adapters + 2 * d,
            "lora": 2 * r * (d + d) + 2 * r * (d + kv),
            "bitfit": biases,
            "full": 2 * d * d + 2 * d * kv + 3 * d * f + 2 * d + biases + norms,
        }
    biases = 4 * d + f + d + 2 * d
    return {
        "adapter": adapters + 4 * d,
        "lora": 4 * r * (d + d),
        "bitfit": biases,
        "full": 4 * d * d + 2 * d * f + 2 * d + biases,
    }


# ------------------------------------------------------------------ which learn


@pytest.mark.parametrize("blocks", [0, 1, 3, L, None])
def test_counts_are_blocks_times_those_of_a_block_and_the_heads(family, blocks):
    head = 2 * d if family in ("llama", "qwen2", "qwen3") else d * d + d + 2 * d + 2
    for method in methods_of(family):
        model = METHODS[method](tiny(family, layers=L), blocks=blocks, **SIZES[method])
        trained, total = model.count_parameters()
        if method == "full" and blocks is None:
            assert trained == total
            continue
        count = L if blocks is None else blocks
        expected = head + count * parameters_of_a_block(family)[method]
        if family == "modernbert" and count == L and method != "lora":
            expected -= d  # its first block has one norm
        assert trained == expected


@pytest.mark.parametrize("blocks", [-1, L + 1])
@pytest.mark.parametrize("method", SIZES)
def test_blocks_that_the_model_does_not_have_are_one_line(method, blocks):
    with pytest.raises(BadInput, match=f"^blocks is {blocks}; expected 0 to {L}") as error:
        METHODS[method](tiny(layers=L), blocks=blocks)
    assert "\n" not in str(error.value)


def test_blocks_before_the_first_that_learns_are_frozen(family):
    for method in methods_of(family):
        models = [METHODS[method](tiny(family, layers=L), blocks=k) for k in range(L + 1)]
        assert [model.frozen_blocks for model in models] == [L, 3, 2, 1, 0]
        assert METHODS[method](tiny(family, layers=L)).frozen_blocks == 0
    assert METHODS["head"](tiny(family, layers=L)).frozen_blocks == L


def test_nothing_is_frozen_where_embeddings_or_shared_positions_learn():
    for family, shared in (("bert", "bert.embeddings"), ("mpnet", "relative_attention_bias")):
        model = METHODS["lora"](tiny(family, layers=L), blocks=1)
        for name, parameter in model.pretrained.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or shared in name)
        assert model.frozen_blocks == 0


def test_the_last_blocks_alone_move(family):
    split, options = tokenised(12), settings("--batch-size", "6", "--warmup", "0")
    for method in methods_of(family):
        model = model_of(method, family, layers=3)
        before = {name: p.detach().clone() for name, p in model.pretrained.named_parameters()}
        state = in_training(model, options, 12, rate=0.1)
        model.train()
        for index in micro_batches(split.lengths, np.arange(12), 40):
            finetuning.step(state, split, index, options)
        after = dict(model.pretrained.named_parameters())
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        last = f"{model.architecture.blocks}.2."
        assert all(name.startswith(last) or model.architecture.in_head(name) for name in moved)
        assert any(name.startswith(last) for name in moved)


def test_no_block_is_head_only_to_the_last_digit(command, tmp_path, cache):  # noqa: F811
    methods = ["head", *(f"{method}(blocks=0, learning_rate=0.01)" for method in SIZES)]
    assert finetuning.main(command("--methods", *methods)) == 0
    folder = tmp_path / "results" / "tiny"
    found = {path.read_bytes() for path in folder.glob("*/predictions.csv")}
    assert len(list(folder.glob("*/predictions.csv"))) == 5 and len(found) == 1
    runs = pd.read_csv(folder / "runs.csv")
    assert set(runs["frozen_blocks"]) == {2} and runs["trainable_parameters"].nunique() == 1


# ------------------------------------------------------------------ the same, run once


def test_logits_and_gradients_from_stored_states_are_those_without(family, cache):
    split = tokenised(13)
    for method in methods_of(family):
        model = model_of(method, family, layers=3).eval()
        stored, _ = states_of(model, split)
        index, found = np.array([5, 0, 12, 3]), []
        for batch in (split.batch(index), stored.batch(index)):
            logits = finetuning.logits_of(model, batch)
            loss = cross_entropy(logits, batch.labels)
            trained = list(model.trainable_parameters().values())
            gradients = torch.autograd.grad(loss, trained)
            found.append((logits.detach(), torch.cat([g.flatten() for g in gradients])))
        for whole, ours in zip(*found, strict=True):
            assert (whole - ours).abs().max() < 1e-6 * max(1, whole.abs().max())


def test_pooled_features_from_the_file_are_those_without(family, cache):
    split = tokenised(13)
    model = METHODS["head"](tiny(family).float()).eval()
    stored, _ = states_of(model, split)
    assert stored.states.bytes == 13 * d * 4
    with torch.no_grad():
        features = model.encode(*split.batch(np.arange(13)).tokens)
    found = stored.batch(np.arange(13)).states[:, 0]
    assert found.dtype == torch.float32 and (found - features).abs().max() < 1e-6


def test_training_from_stored_states_ends_as_training_without_which_writes_none(
    command,  # noqa: F811
    tmp_path,
    cache,
    monkeypatch,
):
    methods = ["head", "adapter", "lora", "bitfit(learning_rate=0.01)", "full"]
    given = ["--methods", *methods, "--blocks", "1", "--lora-dropout", "0.1", "--patience", "1"]
    given += ["--epochs", "4", "--evaluations-per-epoch", "2"]
    with monkeypatch.context() as scarce:
        scarce.setattr(shutil, "disk_usage", full_disk(cache.parent))
        assert finetuning.main(command(*given, "--no-store-states", results="without")) == 0
    assert not cache.exists()
    assert finetuning.main(command(*given, "--store-states", results="with")) == 0
    with_states, without = (tmp_path / results / "tiny" for results in ("with", "without"))
    names = sorted(path.parent.name for path in without.glob("*/predictions.csv"))
    assert len(names) == 5
    for name in names:
        for table in ("predictions.csv", "history.csv", "steps.csv"):
            one, two = (
                pd.read_csv(folder / name / table).drop(columns="seconds", errors="ignore")
                for folder in (with_states, without)
            )
            assert (one - two).abs().max().max() < 1e-5
    assert (pd.read_csv(with_states / "runs.csv")["shared_seconds"] > 0).all()
    assert (pd.read_csv(without / "runs.csv")["shared_seconds"] == 0).all()


def test_frozen_blocks_have_no_dropout_in_training_and_learning_ones_do(family):
    rates = {rate: 0.5 for rate in ARCHITECTURES[family].encoder_dropouts}
    model = model_of("lora", family, layers=3, **rates).train()
    batch = tokenised(6).batch(np.arange(6))
    states = model.frozen_states(*batch.tokens)
    assert torch.equal(states, model.frozen_states(*batch.tokens))
    assert torch.equal(states, model.eval().frozen_states(*batch.tokens))
    model.train()
    for given in (None, states):
        one, two = (model.encode(*batch.tokens, given) for _ in range(2))
        assert not torch.equal(one, two)


# ------------------------------------------------------------------ the file


def full_disk(folder):
    """A `disk_usage` for which nothing more fits below the folder, and anything elsewhere."""
    usage = shutil.disk_usage("/")
    return lambda path: usage._replace(free=2**40 if folder not in [path, *path.parents] else 0)


class Counting:
    """A model's frozen states, and how many reviews they were computed of."""

    def __init__(self, model):
        self.model, self.reviews = model, 0

    def __call__(self, batch):
        self.reviews += len(batch.labels)
        return finetuning.frozen_states(self.model, batch)


def computed(model, split):
    """How many reviews are computed to have the states of the split."""
    compute = Counting(model)
    states_of(model, split, compute)
    return compute.reviews


def files(folder):
    """The suffixes of all files, and how many there are of each."""
    return Counter(path.suffix for path in folder.iterdir())


def test_the_file_holds_the_tokens_and_no_padding(cache):
    split = tokenised(13)
    stored, seconds = states_of(model_of("lora"), split)
    assert seconds > 0
    assert stored.states.path.stat().st_size == split.lengths.sum() * d * 4
    assert stored.states.path.parent == cache


def test_methods_of_one_depth_share_a_file_and_nothing_else_does(cache):
    split = tokenised(9)
    assert computed(model_of("lora", layers=3), split) == 9
    for method in ("adapter", "bitfit", "full", "lora"):
        assert computed(model_of(method, layers=3), split) == 0
    flipped = replace(split, labels=1 - split.labels)
    assert computed(model_of("lora", layers=3), flipped) == 0
    other_texts = replace(split, token_ids=split.token_ids.flip(0))
    cut = replace(split, lengths=split.lengths.clip(max=8), token_ids=split.token_ids.clone())
    others = [
        (model_of("lora", layers=3, blocks=2), split),
        (model_of("lora", layers=3, blocks=0), split),
        (model_of("lora", layers=3, seed=1), split),
        (model_of("lora", layers=3, layer_norm_eps=1e-3), split),
        (model_of("lora", layers=3), other_texts),
        (model_of("lora", layers=3), cut),
        (model_of("lora", layers=3), tokenised(10)),
    ]
    for model, other in others:
        assert computed(model, other) == len(other)
        assert computed(model, other) == 0
    assert files(cache)[""] == 1 + len(others)


def test_another_type_computed_in_has_a_file_of_its_own(cache, monkeypatch):
    model, split = model_of("lora"), tokenised(9)
    wide = FrozenStates(model, split, model.fingerprint).rows
    monkeypatch.setattr(frozen, "compute_type", lambda device: torch.bfloat16)
    narrow = FrozenStates(model, split, model.fingerprint).rows
    assert wide.path != narrow.path and wide.bytes == 2 * narrow.bytes


def test_methods_seeds_rates_and_experiments_compute_the_states_once(
    command,  # noqa: F811
    tmp_path,
    cache,
    monkeypatch,
):
    counts = Counter()
    compute = finetuning.frozen_states

    def counting(model, batch):
        counts[model.frozen_blocks] += len(batch.labels)
        return compute(model, batch)

    monkeypatch.setattr(finetuning, "frozen_states", counting)
    methods = ["lora", "adapter", "lora(rank=2, learning_rate=0.1)"]
    given = ["--methods", *methods, "--blocks", "1", "--epochs", "1"]
    assert finetuning.main(command(*given, "--seeds", "0", "1")) == 0
    monkeypatch.setattr(shutil, "disk_usage", full_disk(cache.parent))
    reviews = json.loads((tmp_path / "results" / "tiny" / "experiment.json").read_text())["data"]
    reviews = sum(reviews[name] for name in ("train", "validation", "test"))
    assert counts == {1: reviews}
    other = ["--methods", "full(learning_rate=0.01)", "--encoder-dropout", "0.5"]
    assert finetuning.main(command(*given, *other, results="other")) == 0
    assert counts == {1: reviews}
    assert files(cache)[""] == files(cache)[".json"] == 3


@pytest.mark.parametrize(("rank", "order"), [(0, [9, 5, 7]), (1, [7, 5, 9])])
def test_a_second_process_starts_with_the_last_split(rank, order, cache, monkeypatch):
    splits = {"train": tokenised(9), "validation": tokenised(5), "test": tokenised(7)}
    monkeypatch.setattr(finetuning.processes, "rank", lambda: rank)
    made, load = [], FrozenStates.load

    def noting(states, *how):
        made.append(len(states.split))
        return load(states, *how)

    monkeypatch.setattr(FrozenStates, "load", noting)
    model = model_of("lora")
    found, _ = finetuning.with_states(model, run_of(settings(), splits).experiment)
    assert made == order and list(found) == list(splits)
    for name, split in splits.items():
        assert found[name].states.path == FrozenStates(model, split, model.fingerprint).rows.path


def test_states_stopped_half_way_are_made_anew(cache):
    model, split = model_of("lora"), tokenised(13)
    compute = Counting(model)

    def stopping(batch):
        if compute.reviews > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(batch)

    with pytest.raises(torch.OutOfMemoryError):
        states_of(model, split, stopping)
    assert set(files(cache)) <= {".part", ".lock"}
    assert computed(model, split) == 13
    assert ".part" not in files(cache)


@pytest.mark.parametrize("damage", ["states shorter", "states gone", "seconds empty", "all gone"])
def test_damaged_states_are_made_anew(cache, damage):
    model, split = model_of("lora"), tokenised(13)
    path = states_of(model, split)[0].states.path
    whole, about = path.read_bytes(), path.with_suffix(".json")
    if damage == "states shorter":
        path.write_bytes(whole[:-1])
    if damage in ("states gone", "all gone"):
        path.unlink()
    if damage == "seconds empty":
        about.write_text("")
    if damage == "all gone":
        about.unlink()
    assert computed(model, split) == 13 and path.read_bytes() == whole
    assert json.loads(about.read_text())["seconds"] > 0


def _make(folder, number):
    model, split = model_of("lora"), tokenised(13)

    def slow(batch):
        time.sleep(0.1)
        with (folder / f"{number}").open("a") as file:
            file.write(f"{len(batch.labels)}\n")
        return finetuning.frozen_states(model, batch)

    states_of(model, split, slow)


def test_two_processes_at_once_compute_the_states_once(cache, tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_make, args=(tmp_path, number)) for number in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    (log,) = [path for number in range(2) if (path := tmp_path / str(number)).exists()]
    assert sum(map(int, log.read_text().split())) == 13
    assert computed(model_of("lora"), tokenised(13)) == 0


def test_a_disk_without_room_for_the_states_is_one_line(
    command,  # noqa: F811
    tmp_path,
    cache,
    capsys,
    monkeypatch,
):
    cache.parent.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", full_disk(cache.parent))
    given = ("--methods", "lora", "--blocks", "1", "--epochs", "1")
    assert finetuning.main(command(*given)) == 2
    error = capsys.readouterr().err
    assert "what the frozen blocks make of the reviews needs about" in error
    assert error.count("\n") == 1
    assert "HF_HOME" in error and "STORE_STATES" in error
    assert not (tmp_path / "results" / "tiny").exists()


def test_a_cache_that_cannot_be_written_is_one_line(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(frozen.constants, "HF_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="frozen blocks' states .* set HF_HOME") as error:
        states_of(model_of("lora"), tokenised(5))
    assert "\n" not in str(error.value)
