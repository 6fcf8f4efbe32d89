"""The files of what frozen blocks give: who shares them, and who may not."""

import json
import multiprocessing
import os
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from huggingface_hub import constants
from test_frozen import FEW, d, model_of, stored
from test_training import settings, tokenised

import finetuning
import hardware
from boundary import BadInput
from data_utils import micro_batches
from experiment import cached_states, state_cache
from modeling import METHODS, PeftModel
from modeling.pooling import POOLINGS

pytestmark = pytest.mark.usefixtures("without_figures", "on_the_cpu")


def makes(model, split, *options):
    """How many reviews the frozen blocks run on when a run asks for what they make of a split."""
    reviews, frozen_states = [], type(model).frozen_states

    def counting(model, input_ids, attention_mask):
        reviews.append(len(input_ids))
        return frozen_states(model, input_ids, attention_mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "frozen_states", counting)
        stored(model, split, *options)
    return sum(reviews)


def files(folder):
    """The suffixes of all files, and how many there are of each."""
    return Counter(path.suffix for path in folder.iterdir())


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("blocks", [0, 1])
def test_the_files_hold_what_frozen_blocks_make_and_no_padding(family, cache, blocks, pooling):
    model, split = model_of("lora", family, blocks, layers=3, pooling=pooling).eval(), tokenised(13)
    found, seconds = stored(model, split)
    assert seconds > 0
    vectors = {"first": not blocks, "mean": not blocks, "layers": 4 - blocks}[pooling]
    sizes = {".hidden": split.lengths.sum() * d * 4 * blocks, ".pooled": 13 * vectors * d * 4}
    sizes = {suffix: size for suffix, size in sizes.items() if size}
    found_sizes = {path.suffix: path.stat().st_size for path in cache.iterdir()}
    assert sizes == {s: n for s, n in found_sizes.items() if s not in (".json", ".lock")}
    for index in micro_batches(split.lengths, np.arange(13), 40):  # as they were computed
        batch = split.batch(index)
        with torch.no_grad():
            expected = model.frozen_states(*batch.tokens)
        for tensor, other in zip(found.batch(index).frozen, expected, strict=True):
            if other is None:
                assert tensor is None
                continue
            real = batch.attention_mask[:, :, None] if other is expected.hidden else 1
            assert torch.equal(tensor, other * real)


def test_methods_of_one_depth_share_files_and_nothing_else_does(cache):
    split = tokenised(9)
    assert makes(model_of("lora", layers=3), split) == 9
    for method in ("adapter", "bitfit", "full", "lora"):
        assert makes(model_of(method, layers=3), split) == 0
    assert makes(model_of("lora", layers=3), replace(split, labels=1 - split.labels)) == 0
    lora = model_of("lora", layers=3)
    others = [
        (model_of("lora", layers=3, blocks=2), split),
        (model_of("lora", layers=3, blocks=0), split),
        (model_of("lora", layers=3, seed=1), split),
        (model_of("lora", layers=3, pooling="layers"), split),
        (model_of("lora", layers=3, layer_norm_eps=1e-3), split),
        (lora, replace(split, token_ids=split.token_ids.flip(0))),
        (lora, replace(split, lengths=split.lengths.clip(max=8))),
        (lora, tokenised(10)),
        (lora, split, "--micro-batch-tokens", "41"),
    ]
    for model, other, *options in others:
        assert makes(model, other, *options) == len(other)
        assert makes(model, other, *options) == 0
    assert files(cache)[".json"] == 1 + len(others)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_from_states_half_way_are_those_of_the_whole_pass(family, cache, pooling):
    def model(method, **choice):
        torch.manual_seed(0)
        return METHODS[method](tiny(family).float(), pooling, **choice).eval()

    head, split, blocks = model("head"), tokenised(13), Counter()
    whole = stored(head, split)[0].frozen[1].path.read_bytes()
    for path in cache.iterdir():
        path.unlink()
    halfway = model("full", blocks=1)
    for index, block in enumerate(halfway.blocks):
        block.register_forward_pre_hook(lambda *_, index=index: blocks.update([index]))

    def build():
        torch.rand(1)  # as a new head does
        return halfway

    random = torch.get_rng_state()
    found, _ = cached_states(head, {"train": split}, settings(*FEW), build)
    assert torch.equal(torch.get_rng_state(), random)
    assert found["train"].frozen[1].path.read_bytes() == whole
    assert blocks[0] == blocks[1] > 0  # the last block on the states of the first
    assert makes(halfway, split) == 0  # and they are there for what trains the last block


def test_stored_states_that_are_rounded_are_no_start(cache, monkeypatch):
    for module in (hardware, state_cache):
        monkeypatch.setattr(module, "compute_type", lambda device: torch.bfloat16)
    head = METHODS["head"](tiny())
    cached_states(head, {"train": tokenised(5)}, settings(*FEW), lambda: pytest.fail("built"))


def test_a_probe_of_another_reading_is_the_probe_of_that_pooling(
    cache,
    command,
    tmp_path,
    monkeypatch,
):
    """Beside a method of fewer blocks, from whose states a probe may start."""
    methods = "--methods", "lora(blocks=1)", "probe", "probe(pooling='mean')"
    assert finetuning.main(command(*methods, "--pooling", "layers")) == 0
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "another"))
    alone = command("--methods", "probe", "--pooling", "mean", results="alone")
    assert finetuning.main(alone) == 0
    runs = pd.read_csv(tmp_path / "results" / "tiny" / "runs.csv").set_index("method")
    (mean,) = pd.read_csv(tmp_path / "alone" / "tiny" / "runs.csv").itertuples()
    for score in ("validation_loss", "train_loss", "test_loss"):
        assert runs.loc["probe(pooling='mean')", score] == getattr(mean, score)
        assert runs.loc["probe", score] != getattr(mean, score)


def test_another_type_computed_in_has_a_file_of_its_own(cache, monkeypatch):
    model, split = model_of("lora"), tokenised(9)
    wide = stored(model, split)[0].frozen[0]
    for module in (hardware, state_cache):
        monkeypatch.setattr(module, "compute_type", lambda device: torch.bfloat16)
    narrow = stored(model, split)[0].frozen[0]
    assert wide.path != narrow.path and wide.path.stat().st_size == 2 * narrow.path.stat().st_size


def test_methods_seeds_rates_and_experiments_compute_them_once(
    command,
    tmp_path,
    cache,
    monkeypatch,
):
    counts, frozen_states = Counter(), PeftModel.frozen_states

    def counting(model, input_ids, attention_mask):
        counts[model.frozen_blocks] += len(input_ids)
        return frozen_states(model, input_ids, attention_mask)

    monkeypatch.setattr(PeftModel, "frozen_states", counting)
    methods = ["lora", "adapter", "lora(rank=2, learning_rate=0.1)", "probe", "head"]
    given = ["--methods", *methods, "--blocks", "1", "--epochs", "1"]
    given.append("--no-redraw-labels")
    assert finetuning.main(command(*given, "--seeds", "0", "1")) == 0
    reviews = json.loads((tmp_path / "results" / "tiny" / "experiment.json").read_text())["data"]
    reviews = sum(reviews[name] for name in ("train", "validation", "test"))
    assert counts == {1: reviews}  # the probe and head-only go on from its states
    runs = pd.read_csv(tmp_path / "results" / "tiny" / "runs.csv").set_index("name")
    assert (runs.loc[["probe", "head"], "frozen_blocks"] == 2).all()
    assert files(cache)[".json"] == 6
    other = ["--methods", "full(learning_rate=0.01)", "--encoder-dropout", "0.5"]
    assert finetuning.main(command(*given, *other, results="other")) == 0
    assert counts == {1: reviews}


def test_the_tests_pass_is_no_part_of_training_in_time_or_memory(
    command,
    tmp_path,
    cache,
    monkeypatch,
):
    seconds, made = {"train": 1.0, "validation": 2.0, "test": 40.0}, []
    make = state_cache._States.make

    def timed(states, *given):
        make(states, *given)
        made.append(given[-1])
        return seconds[given[-1]]

    monkeypatch.setattr(state_cache._States, "make", timed)
    reset, at = hardware.reset_peak_memory, []
    monkeypatch.setattr(
        hardware, "reset_peak_memory", lambda device: at.append(len(made)) or reset(device)
    )
    given = ["--methods", "lora", "probe", "--blocks", "1", "--epochs", "1", "--pooling", "mean"]
    assert finetuning.main(command(*given)) == 0
    runs = pd.read_csv(tmp_path / "results" / "tiny" / "runs.csv")
    assert runs["shared_seconds"].tolist() == [3.0, 3.0]
    assert at == [3, len(made)] and len(made) >= 6  # after each pass


@pytest.mark.parametrize(("rank", "order"), [(0, [9, 5, 7]), (1, [7, 5, 9])])
def test_a_second_process_starts_with_the_last_split(rank, order, cache, monkeypatch):
    splits = {"train": tokenised(9), "validation": tokenised(5), "test": tokenised(7)}
    monkeypatch.setattr(finetuning.processes, "rank", lambda: rank)
    found, _ = cached_states(model_of("lora"), splits, settings(*FEW))
    assert list(found) == list(splits)
    made = sorted(splits, key=lambda name: found[name].frozen[0].path.stat().st_mtime_ns)
    assert [len(splits[name]) for name in made] == order


def test_a_pass_that_is_stopped_half_way_is_made_anew(cache, monkeypatch):
    model, split = model_of("lora"), tokenised(13)
    whole, calls = type(model).frozen_states, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*arguments)

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(type(model), "frozen_states", stopping)
        stored(model, split)
    assert set(files(cache)) <= {".part", ".lock"}
    assert makes(model, split) == 13
    assert ".part" not in files(cache)


@pytest.mark.parametrize("suffix", [".hidden", ".pooled", ".json"])
def test_files_that_are_gone_are_made_anew(cache, suffix):
    model, split = model_of("lora", pooling="layers"), tokenised(13)
    path = stored(model, split)[0].frozen[0].path.with_suffix(suffix)
    whole = path.read_bytes()
    path.unlink()
    assert makes(model, split) == 13
    assert suffix == ".json" or path.read_bytes() == whole


def test_an_empty_record_of_their_seconds_is_made_anew(cache):
    model, split = model_of("lora"), tokenised(13)
    stored(model, split)[0].frozen[0].path.with_suffix(".json").write_text("")
    assert makes(model, split) == 13


def test_a_file_truncated_while_it_is_read_fails_the_run_in_one_line(cache):
    split, _ = stored(model_of("lora"), tokenised(13))
    os.truncate(split.frozen[0].path, 100)
    with pytest.raises(BadInput, match="hidden has been truncated") as error:
        split.batch(np.arange(13))
    assert "\n" not in str(error.value)


def _make(folder, number):
    model, split = model_of("lora"), tokenised(13)
    whole = type(model).frozen_states

    def slow(model, input_ids, attention_mask):
        time.sleep(0.1)
        with (folder / f"{number}").open("a") as file:
            file.write(f"{len(input_ids)}\n")
        return whole(model, input_ids, attention_mask)

    type(model).frozen_states = slow
    stored(model, split)


def test_two_processes_at_once_compute_them_once(cache, tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_make, args=(tmp_path, number)) for number in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    (log,) = [path for number in range(2) if (path := tmp_path / str(number)).exists()]
    assert sum(map(int, log.read_text().split())) == 13
    assert makes(model_of("lora"), tokenised(13)) == 0


def test_a_cache_that_cannot_be_written_is_refused_at_set_up(
    command,
    tmp_path,
    cache,
    capsys,
    monkeypatch,
):
    given = ["--methods", "lora", "--blocks", "1", "--epochs", "1"]
    cache.parent.mkdir()
    cache.write_text("a file in the place of the folder")
    assert finetuning.main(command(*given)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "HF_HOME" in error and "STORE_STATES" in error
    assert not (tmp_path / "results" / "tiny").exists()
    assert finetuning.main(command("--methods", "probe")) == 2  # a probe alone has a pass, too
    assert finetuning.main(command(*given, "--no-store-states")) == 0
    cache.unlink()
    assert finetuning.main(command(*given, results="first")) == 0
    monkeypatch.setattr(state_cache, "replacing", None)  # nothing is written a second time
    monkeypatch.setattr(state_cache, "FileLock", None)
    assert finetuning.main(command(*given, results="second")) == 0
