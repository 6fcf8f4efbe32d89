"""The mistakes of `studies.broken` are what their names say, and all else is ours."""

import pytest
import torch
from conftest import tiny, tokens
from torch import nn

from experiment import setup
from modeling import METHODS, Method
from modeling.adapter import BottleneckAdapter
from studies.broken import MISTAKES, main


@pytest.fixture(autouse=True)
def with_mistakes(monkeypatch):
    """Among the methods, until the test ends."""
    for name, mistake in MISTAKES.items():
        monkeypatch.setitem(METHODS, name, mistake)


@pytest.fixture(params=["mean", "layers"])
def pooling(request):
    return request.param


@pytest.fixture(params=MISTAKES)
def pair(request, pooling):
    """A mistake's name, its model, and ours around the same pretrained model."""
    name = request.param
    models = []
    for method in (name, name.partition("_")[0]):
        torch.manual_seed(0)
        models.append(Method(method, {}).build(tiny("distilbert"), pooling))
    return name, *models


def test_each_mistake_is_the_one_change_that_its_name_says(pair, pooling):
    name, broken, ours = pair
    trained = {n for n, p in broken.named_parameters() if p.requires_grad}
    kept = {n for n, p in ours.named_parameters() if p.requires_grad}
    frozen, state = kept - trained, ours.state_dict()
    changed = {n for n, p in broken.state_dict().items() if not torch.equal(p, state[n])}
    assert trained <= kept
    if name == "lora_frozen_head":
        assert frozen == {n for n in kept if "lora_" not in n}
        if pooling == "mean":
            assert not changed
        else:  # ours starts at zero, which would give the blocks no gradient
            assert changed == {"pretrained.layers_head.linear.weight"}
            broken(*tokens())[:, 0].sum().backward()
            assert any(p.grad.any() for n, p in broken.named_parameters() if "lora_B" in n)
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


def test_each_run_chooses_its_rate_and_the_command_that_resumes_knows_the_mistakes(
    monkeypatch, capsys
):
    seen = []

    def interrupted(settings):
        seen.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "prepare", interrupted)
    assert main(["--fresh", "--results", "my results"]) == 130
    command = 'python -m studies.broken --preset quick --results "my results"'
    assert seen[0].command == command and f"resume with: {command}\n" in capsys.readouterr().err
    assert {method.name for method in seen[0].methods} == {"lora", "adapter", *MISTAKES}
    rates = {method.text: len(method.learning_rates) for method in seen[0].methods}
    assert {text for text, count in rates.items() if count != 3} == {
        "lora(learning_rate=2e-05)",
        "adapter(learning_rate=2e-05)",
    }


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
