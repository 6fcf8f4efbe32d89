"""LoRA's dropout, how it rounds, and matrices that hold several projections."""

import pytest
import torch
from conftest import tiny
from torch import nn

from modeling import (
    LoRALinear,
    LoRAModel,
    adapted_layers,
)


def test_dropout_before_a_acts_in_training_alone():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(32, 16), rank=4, alpha=8, dropout=0.5)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(200, 32)
    assert not torch.equal(layer.train()(x), layer.train()(x))
    exact = layer.linear(x) + 2 * x @ layer.lora_A.T @ layer.lora_B.T
    assert torch.allclose(layer.eval()(x), exact, atol=1e-5)
    mean = torch.stack([layer.train()(x) for _ in range(500)]).mean(0)
    assert (mean - exact).abs().mean() < 0.1 * exact.abs().mean()  # W0 x untouched, A x in the mean


def test_merging_rounds_once_whatever_the_models_type():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(64, 64).bfloat16(), rank=4, alpha=8)
    nn.init.normal_(layer.lora_B, std=0.01)
    exact = layer.linear.weight.double() + 2 * layer.lora_B.double() @ layer.lora_A.double()
    merged = layer.merged().weight
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, exact.bfloat16())


def test_a_fused_matrix_is_adapted_whole_or_not_at_all():
    model = LoRAModel(tiny("modernbert"), targets=("q", "k", "v", "o"))
    assert len(adapted_layers(model)) == 2 * 2  # Wqkv and Wo in each block
    with pytest.raises(ValueError, match=r"keeps \['k', 'v'\] in the same matrix"):
        LoRAModel(tiny("modernbert"), targets=("q",))
