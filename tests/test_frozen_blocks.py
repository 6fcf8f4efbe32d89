"""Running from stored states against the whole forward pass, in every family and at every depth."""

import pytest
import torch
from conftest import CONFIGS, randomised, tiny, tokens
from torch.nn import functional as F

from modeling import METHODS
from modeling.frozen_blocks import running_from, states_after

L = 4
MIXED = {  # what makes the blocks of a family unlike
    "modernbert": {"global_attn_every_n_layers": 3},  # global, local, local, global
    **dict.fromkeys(
        ("qwen2", "qwen3"),
        {
            "use_sliding_window": True,
            "sliding_window": 3,
            "layer_types": ["full_attention", "sliding_attention"] * (L // 2),
        },
    ),
}
VARIANTS = {"deberta-v2 with conv": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"})}


@pytest.fixture(params=[*CONFIGS, *VARIANTS])
def deep(request):
    """A function that makes the same classifier of four blocks at each call."""
    family, changes = VARIANTS.get(request.param, (request.param, {}))
    return lambda: tiny(family, layers=L, **MIXED.get(family, {}), **changes)


def training_after(depth, pretrained, method="lora"):
    return randomised(METHODS[method](pretrained, blocks=L - depth))


def states_of(model, depth):
    return states_after(model.pretrained, depth, *tokens())


def test_no_pass_of_a_decoder_keeps_keys_and_values():
    model, seen = METHODS["lora"](tiny("llama", layers=L), blocks=2), []
    model.pretrained.base_model.register_forward_pre_hook(
        lambda module, args, options: seen.append(options["use_cache"]), with_kwargs=True
    )
    model.encode(*tokens(), model.frozen_states(*tokens()))
    model.encode(*tokens())
    assert seen and not any(seen)


def same_logits_and_gradients(model, depth, states, limit):
    """Of the whole forward pass, and of the one from the states."""
    trained = list(model.trainable_parameters().values())
    whole = model(*tokens())
    with running_from(model.pretrained, depth, states):
        part = model(*tokens())
    assert (part - whole).abs().max() < limit * max(1, whole.abs().max())
    labels = torch.tensor([0, 1, 1])
    expected, gradients = (
        torch.autograd.grad(F.cross_entropy(logits, labels), trained) for logits in (whole, part)
    )
    largest = max(1, *(gradient.abs().max() for gradient in expected))
    for mine, other in zip(gradients, expected, strict=True):
        assert (mine - other).abs().max() < limit * largest
    assert all(gradient.any() for gradient in expected if gradient.dim() > 1)


@pytest.mark.parametrize("depth", range(1, L))
def test_states_are_transformers_hidden_states(deep, depth):
    ids, mask = tokens()
    outputs = deep().base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    states = states_after(deep(), depth, ids, mask)
    assert torch.equal(states, outputs.hidden_states[depth])
    assert not states.requires_grad


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("depth", range(1, L))
def test_logits_and_gradients_are_those_of_the_whole_pass(deep, depth, method):
    model = training_after(depth, deep(), method)
    same_logits_and_gradients(model, depth, states_of(model, depth), 1e-12)


def test_the_states_of_padding_may_be_any_numbers(deep):
    model = training_after(1, deep())
    states = states_of(model, 1)
    states[tokens()[1] == 0] = torch.randn(states.shape[-1], dtype=states.dtype)
    same_logits_and_gradients(model, 1, states, 1e-12)


@pytest.mark.parametrize("ends", ["normally", "by an exception"])
def test_the_model_is_afterwards_as_before(deep, ends):
    model = training_after(2, deep(), "adapter")
    states, whole = states_of(model, 2), model(*tokens())
    names = [list(dict(model.named_parameters())), list(model.state_dict())]
    attributes = {module: dict(vars(module)) for module in model.modules()}
    try:
        with running_from(model.pretrained, 2, states + 1):
            assert not torch.equal(model(*tokens()), whole)
            assert names == [list(dict(model.named_parameters())), list(model.state_dict())]
            if ends != "normally":
                raise RuntimeError("within")
    except RuntimeError as error:
        assert str(error) == "within"
    assert names == [list(dict(model.named_parameters())), list(model.state_dict())]
    assert all(vars(module).keys() == attributes[module].keys() for module in attributes)
    assert torch.equal(model(*tokens()), whole)
