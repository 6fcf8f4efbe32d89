"""The mistakes of `benchmarks.broken` are what their names say, and all else is ours."""

import pytest
import torch
from conftest import tiny, tokens
from torch import nn

from benchmarks.broken import MISTAKES, AdapterWithoutResidual
from modeling import METHODS
from modeling.adapter import BottleneckAdapter


@pytest.fixture(params=MISTAKES)
def pair(request):
    """A mistake's name, its model, and ours around the same pretrained model."""
    name = request.param
    models = []
    for kind in (MISTAKES[name], METHODS[name.partition("_")[0]]):
        torch.manual_seed(0)
        models.append(kind(tiny("distilbert")))
    return name, *models


def test_each_mistake_is_the_one_change_that_its_name_says(pair):
    name, broken, ours = pair
    trained = {n for n, p in broken.named_parameters() if p.requires_grad}
    kept = {n for n, p in ours.named_parameters() if p.requires_grad}
    frozen, state = kept - trained, ours.state_dict()
    changed = {n for n, p in broken.state_dict().items() if not torch.equal(p, state[n])}
    assert trained <= kept
    if name == "lora_frozen_head":
        assert frozen and all("lora_" not in n for n in frozen) and not changed
        assert all("lora_" in n for n in trained)
    elif name == "lora_normal":
        assert not frozen and changed and all(n.endswith("lora_A") for n in changed)
        values = torch.cat([broken.state_dict()[n].flatten() for n in changed])
        assert values.std().item() == pytest.approx(1, abs=0.2)
    elif name == "adapter_frozen_norms":
        norms = {
            f"{n}.{p}"
            for n, m in broken.named_modules()
            if isinstance(m, nn.LayerNorm)
            for p in ("weight", "bias")
        }
        assert frozen and frozen <= norms and not changed
    else:
        assert not frozen and not changed


def test_each_adapter_of_the_model_without_residual_lacks_exactly_h():
    model, seen = MISTAKES["adapter_no_residual"](tiny("distilbert")), []

    def without_h(adapter, inputs, output):
        seen.append(adapter)
        by_hand = adapter.up(nn.functional.gelu(adapter.down(inputs[0])))
        torch.testing.assert_close(output, by_hand)

    for module in model.modules():
        if isinstance(module, BottleneckAdapter):
            module.register_forward_hook(without_h)
    model(*tokens())
    assert len(seen) == 2 * len(model.blocks)


def test_the_adapter_without_residual_lacks_exactly_h():
    torch.manual_seed(0)
    adapter = BottleneckAdapter(8, 4).double()
    h = torch.randn(3, 8, dtype=torch.float64)
    ours = adapter(h)
    adapter.__class__ = AdapterWithoutResidual
    torch.testing.assert_close(adapter(h), ours - h)
