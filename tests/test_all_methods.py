"""What holds of every method: its start, its counts, merging, bf16, export and refusals."""

import pytest
import torch
from conftest import randomised, tiny, tokens
from test_reference import SIZES, config_of, wrap

from boundary import BadInput
from modeling import (
    METHODS,
    adapted_layers,
    merge,
)
from modeling.architectures import ARCHITECTURES
from modeling.reft import LoReFT

OF_BLOCKS = SIZES | {"lora": {"rank": 3}}


@pytest.mark.parametrize("method", [*SIZES, "head", "lora", "full"])
def test_a_method_starts_as_the_pretrained_model(family, method):
    ids, mask = tokens()
    model = METHODS[method](tiny(family), **SIZES.get(method, {})).eval()
    assert (model(ids, mask) - tiny(family)(ids, attention_mask=mask).logits).abs().max() < 1e-12


def parameters_of_a_block(family):
    """In closed form: what each method trains of a block after the first.

    Width d, f of the feed-forward layer, kv of keys and values; rank r, bottleneck m.
    """
    d, f, kv, r, m = 8, 12, 4, 3, 64
    added = {"adapter": 2 * (2 * d * m + m + d), "reft": 2 * 2 * d + 2}
    if family == "modernbert":  # no biases; q, k, v in one matrix, the gate in another
        lora, vera, scales, norms = r * (d + 3 * d) + r * (d + d), 4 * d + 2 * r, 3 * d + f, 2 * d
        dora, full = lora + 4 * d, 4 * d * d + 3 * d * f + norms
    elif family in ("llama", "qwen2", "qwen3"):
        lora, vera = 2 * r * (d + d) + 2 * r * (d + kv), 2 * (d + r) + 2 * (kv + r)
        dora, scales, norms = lora + 2 * d + 2 * kv, 2 * kv + f, 2 * d
        added["bitfit"] = biases = d + 2 * kv if family == "qwen2" else 0
        of_heads = 2 * kv if family == "qwen3" else 0  # the norms of q and k, in heads of width 4
        full = 2 * d * d + 2 * d * kv + 3 * d * f + norms + biases + of_heads
    else:
        lora, vera, scales, norms = 4 * r * (d + d), 4 * (d + r), 2 * d + f, 4 * d
        added["bitfit"] = 4 * d + f + d + 2 * d
        dora, full = lora + 4 * d, 4 * d * d + 2 * d * f + 2 * d + added["bitfit"]
    added["adapter"] += norms
    return added | dict(lora=lora, dora=dora, vera=vera, ia3=scales, ln=norms, full=full)


def test_counts_are_those_of_a_block_times_blocks_and_the_heads(family):
    d = 8
    head = 2 * d if family in ("llama", "qwen2", "qwen3") else d * d + d + 2 * d + 2
    for method, of_a_block in parameters_of_a_block(family).items():
        if method == "bitfit" and not of_a_block:
            continue  # it refuses a family without biases
        for blocks in (0, 1, 3, None):
            model = METHODS[method](
                tiny(family, layers=4), **OF_BLOCKS.get(method, {}), blocks=blocks
            )
            trained, total = model.count_parameters()
            assert model.frozen_blocks == 4 - (4 if blocks is None else blocks)
            if blocks is None and method == "full":
                assert trained == total
            elif blocks is not None:  # the first block of ModernBERT has one norm
                assert trained == head + blocks * of_a_block


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
        ("lora", {"alpha": float("inf")}, "alpha is inf; expected a finite number above 0"),
        ("lora", {"alpha": float("nan")}, "alpha is nan"),
        ("dora", {"alpha": float("inf")}, "alpha is inf"),
    ],
)
def test_wrong_hyperparameters_are_one_line(method, wrong, line):
    with pytest.raises(BadInput, match=line):
        METHODS[method](tiny(), **wrong)
