"""The FLOPs that the benchmarks hold speeds against, and that every system trains."""

import numpy as np
import pytest
import torch
from conftest import tiny
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops, memory
from benchmarks.systems import SYSTEMS, Work
from benchmarks.training_profile import make_plain, seconds_by_kind
from evaluation import measure
from modeling import METHODS, use_fast_attention, use_folded_lora

CPU = torch.device("cpu")
D, F, BLOCKS, N, T = 8, 12, 2, 3, 7


def counted(method, **hyperparameters):
    """PyTorch's own count of a forward and a backward pass, without the head's."""
    pretrained = tiny("bert")
    use_fast_attention(pretrained, CPU)
    model = METHODS[method](pretrained, **hyperparameters).eval()
    if method == "head":
        model.requires_grad_(False)
    ids = torch.randint(5, 20, (N, T))
    with FlopCounterMode(display=False) as forward:
        features = model.encode(ids, torch.ones_like(ids))
    if method == "head":
        return forward.get_total_flops()
    with FlopCounterMode(display=False) as backward:
        features.sum().backward()
    return forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize(
    ("method", "size", "hyperparameters"),
    [
        ("head", 0, {}),
        ("full", 0, {}),
        ("lora", 3, {"rank": 3}),
        ("adapter", 3, {"bottleneck": 3}),
    ],
)
def test_the_required_flops_are_what_pytorch_counts(method, size, hyperparameters):
    required = flops.required(flops.Shape(D, F, BLOCKS), np.full(N, T), method, size)
    pooling = N * 2 * D * D  # BertModel's own, which is the head's to do
    assert counted(method, **hyperparameters) == required + pooling


class Done(Exception):
    pass


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_every_system_makes_its_passes(system):
    turns = []

    def turn():
        turns.append(1)
        if len(turns) > 2:
            raise Done
        return True

    work = Work(
        method="head" if "evaluation" in system else "lora",
        size=2,
        batch_size=2,
        reviews=4,
        length=8,
        shape="24",
        max_tokens=16,
    )
    with pytest.raises(Done):
        SYSTEMS[system](work, CPU, turn)


def test_the_tuned_peer_adapts_the_same_matrices_as_ours(monkeypatch):
    counts = []

    def count(model, *_, **__):
        counts.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
        raise Done

    monkeypatch.setattr("transformers.Trainer.__init__", lambda self, model, *a, **k: count(model))
    work = Work(size=2, reviews=4, length=8, shape="24")
    with pytest.raises(Done):
        SYSTEMS["peft tuned"](work, CPU, None)
    lora = 6 * 4 * 2 * (24 + 24)  # blocks, matrices, rank, widths
    classifier = 2 * 24 + 2  # peft trains the last layer; ours the pooler too
    assert counts == [lora + classifier]


def test_activations_held_are_what_the_shapes_say():
    for method in ("lora", "full"):
        work = Work(method=method, reviews=8, length=40, batch_size=8, max_tokens=64, shape="96")
        held, computed = memory.measured(work, CPU)
        assert held["weights"] == computed["weights"]
        assert held["gradients"] == computed["gradients"]
        assert held["optimizer"] == pytest.approx(computed["optimizer"], rel=1e-3)
        if measure.compute_type(CPU) is torch.bfloat16:
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
