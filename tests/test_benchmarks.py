"""The FLOPs that the benchmarks hold speeds against, and that every system trains."""

import math
import os
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from huggingface_hub import constants
from torch.utils.flop_counter import FlopCounterMode

import finetuning
import hardware
from benchmarks import flops, frozen_blocks, many_gpus, memory
from benchmarks.systems import SYSTEMS, Worker
from benchmarks.training_profile import make_plain, seconds_by_kind
from benchmarks.work import Work, as_run, new_states
from experiment import cached_states, parse
from modeling import METHODS, use_fast_attention, use_folded_lora

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
IN_TEST = [name for name in SYSTEMS if name not in ("adapterhub", "ours, experiment")]


class Turns:
    """Two passes, and an end."""

    def __init__(self):
        self.passes, self.waited = -1, 0.0

    def __call__(self):
        self.passes += 1
        if self.passes == 2:
            raise Done
        return True


@pytest.mark.parametrize("blocks", [None, 2])
@pytest.mark.parametrize("system", IN_TEST)
def test_every_system_makes_its_passes(system, blocks):
    if "pass" in system and not blocks:
        pytest.skip("all blocks learn: none runs once")
    turn, before = Turns(), constants.HF_HOME
    with pytest.raises(Done):
        SYSTEMS[system](replace(SMALL, blocks=blocks), CPU, turn)
    assert (turn.waited > 0) == (system.startswith("ours") and blocks == 2 and "pass" not in system)
    assert before == constants.HF_HOME


def test_an_experiment_begins_without_states_and_asks_for_its_blocks(monkeypatch):
    asked, homes = [], []

    def main(arguments):
        asked.append(parse(vars(finetuning), arguments))
        homes.append(constants.HF_HOME)
        return 0

    monkeypatch.setattr(finetuning, "main", main)
    for blocks in (None, 2):
        with pytest.raises(Done):
            work = Work(method="head", reviews=8, blocks=blocks)
            SYSTEMS["ours, experiment"](work, CPU, Turns())
    assert [settings.blocks for settings in asked] == [None, None, 2, 2]
    assert len({*homes, constants.HF_HOME}) == 5
    assert (asked[0].train_examples, asked[0].test_examples, asked[0].max_tokens) == (8, 2, 512)


@pytest.mark.skipif("ADAPTERS_PYTHON" not in os.environ, reason="no environment with adapters")
@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_adapterhub_makes_its_passes(method):
    worker = Worker("adapterhub", replace(SMALL, method=method, blocks=2))
    assert worker() > 0
    assert worker() > 0
    worker.close()
    assert not worker.process.is_alive()


def test_states_that_are_timed_are_new_and_go():
    run = as_run(replace(SMALL, blocks=2), CPU)
    model = finetuning.start(run).model
    with new_states():
        splits, _ = cached_states(model, run.experiment.splits, run.experiment.settings)
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
    mine = finetuning.start(as_run(work, CPU)).model.trainable_parameters()
    mine = {name for name in mine if "lora" in name}
    peer = {name.removeprefix("base_model.model.").replace(".default.weight", "") for name in peer}
    assert peer == mine
    assert len(peer) == adapted * 4 * 2  # blocks, matrices, A and B


def test_every_claim_is_a_ratio_of_what_was_timed():
    """Where a system's seconds are known, so is each number of the table."""
    work = replace(SMALL, blocks=2)
    timed = frozen_blocks.systems(SMALL, (2,), peers=True)
    timed |= frozen_blocks.beside_the_reference(SMALL, (2,))
    rows = []
    for (system, method), (_, own) in timed.items():
        seconds = 2.0 if own.blocks else 8.0
        rows.append((0, system, method, seconds, 4, 32, 0.5, 1.0 if own.blocks else 4.0))
    columns = ["round", "system", "method", "seconds", "reviews", "tokens", "waited", "memory"]
    found = frozen_blocks.checks(pd.DataFrame(rows, columns=columns), work)
    measured = {what: value for what, (value, _) in found.items()}
    assert measured["lora: an epoch, against the same on all"] == 0.25
    assert measured["lora: times as fast as reference"] == 4
    assert measured["waiting for stored states, share of an epoch"] == 0.25
    assert measured["lora: peak memory above the resting model, against all"] == 0.25
    assert measured["the shared pass, reviews a second"] == 2
    floors = [least for _, least in found.values() if least is not None]
    assert len(floors) == 5
    assert all(0 < least < 2 / 6 for least in floors)  # the last block's is the smallest of all


def test_activations_held_are_what_the_shapes_say():
    for method in ("lora", "full"):
        work = Work(method=method, reviews=8, length=40, batch_size=8, max_tokens=64, shape="96")
        held, computed = memory.measured(work, CPU)
        assert held["weights"] == computed["weights"]
        assert held["gradients"] == computed["gradients"]
        assert held["optimizer"] == pytest.approx(computed["optimizer"], rel=1e-3)
        if hardware.compute_type(CPU) is torch.bfloat16:
            assert held["activations"] == pytest.approx(computed["activations"], rel=0.1)


def test_the_profile_separates_the_kinds_of_operations():
    x = torch.randn(2, 64, 64, requires_grad=True)

    def work():
        layer = torch.nn.Linear(64, 64)
        scores = torch.bmm(torch.nn.functional.gelu(layer(x)), x).softmax(-1)
        torch.nn.functional.layer_norm(scores, (64,)).square().sum().backward()

    spent = seconds_by_kind(work)
    assert {kind for kind, seconds in spent.items() if seconds == 0} == {"attention, fused"}

    def attend():
        torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]).sum().backward()

    spent = seconds_by_kind(attend)
    assert spent["attention, fused"] > 0
    assert spent["attention's products"] == spent["products with weights"] == 0


def test_the_form_before_gives_the_features_of_the_form_after():
    model = METHODS["lora"](tiny("bert"), rank=3).eval()
    use_fast_attention(model.pretrained, CPU)
    use_folded_lora(model)
    for layer in model.lora_layers().values():
        torch.nn.init.normal_(layer.lora_B)
    ids, mask = torch.randint(5, 20, (N, T)), torch.ones(N, T, dtype=torch.long)
    mask[0, 4:] = 0
    after = model.encode(ids, mask)
    make_plain(model)
    torch.testing.assert_close(model.encode(ids, mask), after)


def test_predicted_efficiency_is_the_work_over_what_the_gpus_could_do():
    free = many_gpus.Link("free", math.inf, 0.0)
    for link in (many_gpus.IN_ONE_MACHINE, free):
        assert many_gpus.data_efficiency("lora", 32, 1, link) == 1.0
    with mock.patch.object(many_gpus, "IN_ONE_MACHINE", free):
        assert many_gpus.data_efficiency("lora", 32, 8, free) == 1.0
        assert many_gpus.data_efficiency("lora", 32, 64, free) == 0.5  # half have no review
    assert many_gpus.runs_efficiency(60, 32) == 60 / 64
    assert many_gpus.runs_efficiency(60, 1024) == 60 / 1024


def test_a_step_on_two_gpus_takes_half_the_compute_and_one_exchange():
    link = many_gpus.IN_ONE_MACHINE
    alone = many_gpus.compute_seconds("full", 32)
    exchange = 4 * 66_955_010 / link.bandwidth + 2 * link.latency  # a ring of two: all bytes once
    expected = alone / (2 * (alone / 2 + exchange))
    assert many_gpus.data_efficiency("full", 32, 2, link) == pytest.approx(expected)
