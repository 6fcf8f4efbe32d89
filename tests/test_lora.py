"""LoRA's and the adapters' gradients, and how LoRA rounds."""

import pytest
import torch
from conftest import tiny
from torch import nn

from modeling import (
    BottleneckAdapter,
    LoRALinear,
    LoRAModel,
    adapted_layers,
)


def test_first_and_second_derivatives_of_lora_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(5, 4).double(), rank=2, alpha=3)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def of(x, a, b):
        return torch.func.functional_call(layer, {"lora_A": a, "lora_B": b}, x)

    assert torch.autograd.gradcheck(of, (x, layer.lora_A, layer.lora_B))
    assert torch.autograd.gradgradcheck(of, (x, layer.lora_A, layer.lora_B))


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


def test_gradients_of_the_adapter_pass_gradcheck():
    torch.manual_seed(0)
    adapter = BottleneckAdapter(5, 3).double()
    names, values = zip(*adapter.named_parameters(), strict=True)
    for value in values:
        nn.init.normal_(value)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def of(x, *values):
        return torch.func.functional_call(adapter, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(of, (x, *values))


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
