"""What holds of every method: its start, its counts, merging, bf16, export and refusals."""

import pytest
import torch
from conftest import tiny, tokens
from test_reference import SIZES, config_of, randomised, wrap

from boundary import BadInput
from modeling import (
    METHODS,
    adapted_layers,
    merge,
)
from modeling.architectures import ARCHITECTURES
from modeling.reft import LoReFT


@pytest.mark.parametrize("method", [*SIZES, "head", "lora", "full"])
def test_a_method_starts_as_the_pretrained_model(family, method):
    ids, mask = tokens()
    model = METHODS[method](tiny(family), **SIZES.get(method, {})).eval()
    assert (model(ids, mask) - tiny(family)(ids, attention_mask=mask).logits).abs().max() < 1e-12


def parameters_of_a_block(family):
    """In closed form: what each method trains of a block, with biases f wide feed-forward."""
    d, f, r, kv = 8, 12, 3, 4
    norms = {"modernbert": 2 * d, "llama": 2 * d, "qwen2": 2 * d, "qwen3": 2 * d}.get(family, 4 * d)
    reft = 2 * 2 * d + 2
    common = {"ln": norms, "reft": reft}
    if family == "modernbert":
        dora = r * (d + 3 * d) + 3 * d + r * (d + d) + d
        return common | {"dora": dora, "vera": 3 * d + d + 2 * r, "ia3": 3 * d + f}
    k = kv if family in ("llama", "qwen2", "qwen3") else d
    dora = 2 * (r * (d + d) + d) + 2 * (r * (d + k) + k)
    vera = 2 * (d + r) + 2 * (k + r)
    return common | {"dora": dora, "vera": vera, "ia3": 2 * k + f}


@pytest.mark.parametrize("method", SIZES)
def test_counts_are_those_of_a_block_times_blocks_and_the_heads(family, method):
    head, _ = METHODS["head"](tiny(family, layers=3)).count_parameters()
    for blocks in (1, 2):
        model = METHODS[method](tiny(family, layers=3), **SIZES[method], blocks=blocks)
        expected = head + blocks * parameters_of_a_block(family)[method]
        assert model.count_parameters()[0] == expected
        assert model.frozen_blocks == 3 - blocks


@pytest.mark.parametrize("method", ["lora", "dora", "vera", "ia3"])
def test_merging_gives_the_base_models_layers_and_the_same_logits(family, method):
    every = {"rank": 4, "targets": tuple(ARCHITECTURES[family].projections)}
    model = randomised(METHODS[method](tiny(family), **SIZES.get(method, every)))
    before = model(*tokens()).detach()
    merge(model)
    assert (before - model(*tokens())).abs().max() < 1e-10
    assert {type(m) for m in model.pretrained.modules()} == {
        type(m) for m in tiny(family).modules()
    }


def test_vera_holds_one_pair_of_matrices_which_are_the_references():
    model = METHODS["vera"](tiny(), rank=3).double()
    layers = list(adapted_layers(model).values())
    assert len({id(layer.shared.A) for layer in layers}) == 1
    by_peft = wrap(tiny(), config_of("vera", model))
    assert torch.equal(by_peft.base_model.vera_A["default"], layers[0].shared.A)
    assert torch.equal(by_peft.base_model.vera_B["default"], layers[0].shared.B)


@pytest.mark.parametrize("method", ["lora", "dora", "vera", "ia3", "reft"])
def test_a_method_computes_in_bf16_under_autocast_and_its_gradients_are_float32(method):
    model = METHODS[method](tiny().float(), **SIZES.get(method, {}))
    exact = model(*tokens())
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode(*tokens())
    logits = model.classify(features.float())
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()
    logits.sum().backward()
    trained = model.trainable_parameters().values()
    assert {p.grad.dtype for p in trained} == {torch.float32}


def test_a_small_edit_of_loreft_keeps_its_digits_in_bf16():
    torch.manual_seed(0)
    layer, h = LoReFT(torch.zeros(()), 64, 4), torch.randn(2, 5, 64)
    with torch.no_grad():
        layer.W += 0.01 * torch.randn_like(layer.W)
    exact = layer(h, torch.ones(2, 5, dtype=torch.bool)) - h
    with torch.autocast("cpu", torch.bfloat16):
        edit = layer(torch.zeros_like(h), torch.ones(2, 5, dtype=torch.bool))
        edit = layer(h, torch.ones(2, 5, dtype=torch.bool)) - h - edit
    assert (edit - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(
    ("method", "wrong", "line"),
    [
        ("lora", {"rank": 0}, "rank is 0"),
        ("lora", {"targets": ("q", "x")}, r"targets are \['q', 'x'\]; choose from"),
        ("lora", {"targets": ()}, "choose from"),
        ("adapter", {"bottleneck": 0}, "bottleneck is 0"),
        ("dora", {"rank": 0}, "rank is 0"),
        ("vera", {"targets": ("x",)}, "targets are"),
        ("reft", {"rank": 9}, "rank is 9; expected 1 to 8"),
        ("reft", {"first": 0, "last": 0}, "expected one token or more"),
        ("lora", {"b_rate": 0}, "b_rate is 0"),
        ("lora", {"alpha": float("inf")}, "alpha is inf; expected a finite number above 0"),
        ("lora", {"alpha": float("nan")}, "alpha is nan"),
        ("dora", {"alpha": float("inf")}, "alpha is inf"),
    ],
)
def test_wrong_hyperparameters_are_one_line(method, wrong, line):
    with pytest.raises(BadInput, match=line):
        METHODS[method](tiny(), **wrong)
