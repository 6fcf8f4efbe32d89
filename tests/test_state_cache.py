"""The cached output of the frozen blocks: computed once for each text, exact, shared by all."""

import inspect
import multiprocessing
import shutil
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from test_training import CPU, tokenised

import finetuning
import hardware
from boundary import BadInput
from data_utils import load_task
from experiment import state_cache
from experiment.state_cache import Store, compute, text_keys
from modeling import METHODS, PeftModel
from modeling.inference import predict

pytestmark = pytest.mark.usefixtures("without_figures", "on_the_cpu")
L, d = 3, 8


def model_of(method, family="bert", pooling="layers", **choice):
    torch.manual_seed(0)
    return METHODS[method](tiny(family, layers=L).float(), pooling, **choice).eval()


def filled(split, *models, digest="encoder", most_tokens=40):
    """The stores of models of several depths, filled in one pass by the deepest."""
    models = sorted(models, key=lambda model: model.frozen_blocks)
    stores = [Store(digest, model, model.frozen_blocks) for model in models]
    compute(models[-1], split, stores, most_tokens)
    return stores


@pytest.fixture
def passes(monkeypatch):
    """How many texts ran through the frozen blocks, by their number."""
    counts, frozen_states = Counter(), PeftModel.frozen_states

    def counting(model, input_ids, attention_mask):
        counts[model.frozen_blocks] += len(input_ids)
        return frozen_states(model, input_ids, attention_mask)

    monkeypatch.setattr(PeftModel, "frozen_states", counting)
    return counts


@pytest.mark.parametrize("pooling", ["first", "mean", "layers"])
def test_predictions_from_the_cache_are_those_of_the_whole_pass(family, cache, pooling):
    """Two depths from one pass: what a head alone reads, and what the last block starts from."""
    split = tokenised(13)
    filling = [model_of("lora", family, "mean", blocks=1), model_of("head", family, "mean")]
    for method, store in zip(("lora", "head"), filled(split, *filling), strict=True):
        model = model_of(method, family, pooling, **({"blocks": 1} if method == "lora" else {}))
        found = predict(model, replace(split, frozen=store.outputs(split)), 40)
        torch.testing.assert_close(found, predict(model, split, 40), rtol=0, atol=2e-6)


def test_a_text_is_computed_once_whatever_split_it_is_in(cache, passes, monkeypatch):
    split = tokenised(13)
    filled(split.take(np.arange(5)), model_of("head"))
    (store,) = filled(split, model_of("head"))
    assert passes == {L: 13}
    monkeypatch.setattr(state_cache, "_locked", None)  # what is there waits for nobody
    filled(split.take(np.array([12, 3, 3])), model_of("head"))
    assert passes == {L: 13} and len(store.places) == len(set(text_keys(split)))
    index = np.array([7, 0, 12])
    whole = replace(split, frozen=store.outputs(split))
    one, two = whole.take(index).batch(np.arange(3)), whole.batch(index)
    assert one.frozen[0] is None and torch.equal(one.frozen[1], two.frozen[1])


def test_a_texts_seconds_are_its_share_of_a_pass_and_orphans_go(cache, monkeypatch):
    split = tokenised(13)
    monkeypatch.setattr(hardware, "Clock", lambda: MagicMock(seconds=12.0))
    (store,) = filled(split.take(np.arange(5)), model_of("head"))
    (store.folder / "0.pooled").touch()  # a killed process has left it
    first, second = filled(split, model_of("lora", blocks=1), model_of("head"))
    assert first.outputs(split).seconds == pytest.approx(12 * (L - 1) / L)
    assert store.folder.stat().st_mode & 0o077 == 0  # texts can be read from hidden states
    rest = split.lengths[5:].sum() / split.lengths.sum()  # of the second pass
    assert second.outputs(split).seconds == pytest.approx(12 + 12 * rest)
    assert len(list(store.folder.glob("*.pooled"))) == 2


def test_what_changes_the_output_has_files_of_its_own(cache, passes, monkeypatch):
    split = tokenised(9)
    filled(split, model_of("head"))
    filled(split, model_of("head"), digest="different encoder")
    filled(split, model_of("lora", blocks=1))
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.bfloat16)
    (narrow,) = filled(split, model_of("lora", blocks=1))
    assert passes == {L: 18, L - 1: 18} and narrow.dtype is torch.bfloat16
    monkeypatch.setattr(state_cache, "transformers", SimpleNamespace(__version__="another"))
    filled(split, model_of("lora", blocks=1))
    monkeypatch.setattr(inspect, "getsource", lambda module: "edited")
    filled(split, model_of("lora", blocks=1))
    assert passes[L - 1] == 36 and len(list(cache.iterdir())) == 6


def test_runs_and_experiments_compute_a_text_once(command, tmp_path, cache, passes, reviews_csv):
    methods = ["lora", "lora(rank=2, learning_rate=0.1)", "probe", "head"]
    given = ["--methods", *methods, "--blocks", "1", "--epochs", "1", "--pooling", "auto"]
    given += ["--labels", "all", "--folds", "2", "--seeds", "0", "1"]
    assert finetuning.main(command(*given)) == 0
    assert passes == {2: len(load_task(str(reviews_csv)).rows)}
    runs = pd.read_csv(tmp_path / "results" / "tiny" / "runs.csv").set_index("name")
    assert (runs.loc[["lora", "head"], "shared_seconds"] > 0).all()
    other = ["--methods", "full(learning_rate=0.01)", "--encoder-dropout", "0.5"]
    assert finetuning.main(command(*given, *other, results="other")) == 0
    assert len(passes) == 1


@pytest.mark.parametrize("bound", [("AT_ONCE", 5), ("BYTES", 5 * 5 * d * 4)])  # of five texts
def test_a_stopped_pass_keeps_its_finished_parts(cache, passes, monkeypatch, bound):
    split, write, calls = tokenised(13), Store.write, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(state_cache, *bound)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "write", stopping)
        filled(split, model_of("head"))
    filled(split, model_of("head"))
    assert passes == {L: 10 + 8}


def test_a_cached_file_that_is_truncated_or_missing_is_named_in_one_line(cache):
    split = tokenised(13)
    (store,) = filled(split, model_of("lora", blocks=1))
    (path,) = cache.rglob("*.hidden")
    line = f"{path} cannot be read .*; delete the folder {path.parent}: it is then computed anew"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=line):
        store.outputs(split).batch(np.arange(13), CPU)
    path.unlink()
    with pytest.raises(BadInput, match=line) as error:
        store.outputs(split).batch(np.arange(13), CPU)
    assert "\n" not in str(error.value)


def _fill(folder, number):
    whole = PeftModel.frozen_states

    def slow(model, input_ids, attention_mask):
        time.sleep(0.1)
        with (folder / f"{number}").open("a") as file:
            file.write(f"{len(input_ids)}\n")
        return whole(model, input_ids, attention_mask)

    PeftModel.frozen_states = slow
    filled(tokenised(13), model_of("head"))


def test_two_processes_at_once_compute_each_text_once(cache, tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_fill, args=(tmp_path, number)) for number in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    (log,) = [path for number in range(2) if (path := tmp_path / str(number)).exists()]
    assert sum(map(int, log.read_text().split())) == 13


@pytest.mark.parametrize("is_full", [False, True])
def test_a_cache_that_cannot_be_written_is_one_line(command, cache, capsys, monkeypatch, is_full):
    given = ["--methods", "tfidf", "lora", "--blocks", "1", "--epochs", "1"]
    if is_full:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    else:
        cache.parent.mkdir()
        cache.write_text("a file in the place of the folder")
    assert finetuning.main(command(*given)) == 1
    error = capsys.readouterr().err
    assert error.startswith("lora seed 0 failed") and error.count("\n") == 1
    assert "HF_HOME" in error and "CACHE" in error and ("no room for " in error) == is_full
    assert finetuning.main(command(*given, "--no-cache")) == 0


@pytest.mark.parametrize("methods", [("lora", "probe"), ("probe", "lora")])
def test_seconds_are_of_training_or_of_evaluation_or_of_the_frozen_blocks(
    command, cache, monkeypatch, tmp_path, methods
):
    """On a clock that jumps by 1,000 s in an evaluation, and by 10,000 s in the frozen blocks."""
    jumps, now = [], time.perf_counter
    evaluate, states = finetuning.evaluate, PeftModel.frozen_states

    def slow(act, seconds):
        return lambda *given: jumps.append(seconds) or act(*given)

    monkeypatch.setattr(time, "perf_counter", lambda: now() + sum(jumps))
    monkeypatch.setattr(finetuning, "evaluate", slow(evaluate, 1e3))
    monkeypatch.setattr(PeftModel, "frozen_states", slow(states, 1e4))
    given = "--methods", *methods, "--blocks", "1", "--evaluations-per-epoch", "2"
    assert finetuning.main(command(*given)) == 0
    runs = pd.read_csv(tmp_path / "results" / "tiny" / "runs.csv").set_index("name")
    assert (runs["training_seconds"] < 900).all()
    evaluations = pd.Series({"lora": 4 + 2, "probe": 0})  # on validation; training texts, the test
    for column in ("evaluation_seconds", "run_seconds"):
        assert (runs[column] // 1000 == evaluations[runs.index]).all()
    shared = runs["shared_seconds"]  # without the test, a tenth of the texts; of one block, of two
    assert 0.8 < shared["probe"] / (1e4 * jumps.count(1e4)) < 0.95
    assert shared["lora"] == pytest.approx(shared["probe"] / 2, rel=0.001)


def test_the_outputs_of_the_test_are_no_part_of_a_runs_peak_of_memory(command, cache, monkeypatch):
    order, reset, computing = [], hardware.reset_peak_memory, state_cache._compute
    monkeypatch.setattr(hardware, "reset_peak_memory", lambda d: order.append("reset") or reset(d))
    monkeypatch.setattr(state_cache, "_compute", lambda *a: order.append("pass") or computing(*a))
    assert finetuning.main(command("--methods", "lora", "--blocks", "1", "--epochs", "1")) == 0
    assert order[0] == "pass" and order.index("reset") > 0 and "pass" not in order[1:]
