"""LoRA is the same as HF peft's: logits, gradients, and the weights after ten steps, in float64.

pytest tests/test_against_peft.py -n 0 -s   prints the largest differences
"""

import warnings

import peft
import pytest
import torch
from conftest import tiny, tokens
from torch import nn
from torch.nn.functional import cross_entropy

from modeling import LoRAModel, adapted_layers
from modeling.architectures import ARCHITECTURES

TOLERANCE = 1e-10
TARGETS = {"attention": ("q", "k", "v", "o"), "all-linear": None}
LABELS = torch.tensor([0, 1, 1])


def pair(family, targets, rslora):
    """Ours and peft's around the same base, with the same A, B and head, B not zero."""
    projections = ARCHITECTURES[family].projections
    targets = tuple(projections) if targets is None else targets
    by_hand = LoRAModel(tiny(family), rank=3, alpha=5, targets=targets, rslora=rslora)
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=3,
        lora_alpha=5,
        use_rslora=rslora,
        target_modules=list(adapted_layers(by_hand)),
        modules_to_save=list(by_hand.architecture.head),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_peft = peft.get_peft_model(tiny(family), config)
    torch.manual_seed(3)
    named = dict(by_peft.named_parameters())
    partners = {}
    for name, parameter in by_hand.trainable_parameters().items():
        partner = next(other for other in candidates(name, by_hand) if other in named)
        nn.init.normal_(parameter, std=0.3)
        named[partner].data.copy_(parameter.data)
        partners[name] = partner
    trained = {name for name, p in named.items() if p.requires_grad}
    assert trained == set(partners.values())
    return by_hand, by_peft, partners


def candidates(name, by_hand):
    """What peft may call our parameter `name`."""
    if name.endswith((".lora_A", ".lora_B")):
        yield f"base_model.model.{name}.default.weight"
    for layer in by_hand.architecture.head:
        if name.startswith(f"{layer}."):
            rest = name.removeprefix(layer)
            yield f"base_model.model.{layer}.modules_to_save.default{rest}"


@pytest.mark.parametrize("rslora", [False, True], ids=["alpha/r", "alpha/sqrt(r)"])
@pytest.mark.parametrize("targets", TARGETS)
def test_logits_gradients_and_ten_steps_are_pefts(family, targets, rslora):
    by_hand, by_peft, partners = pair(family, TARGETS[targets], rslora)
    ids, mask = tokens()
    by_hand.eval(), by_peft.eval()  # no dropout in the head: its random numbers would differ
    named = dict(by_peft.named_parameters())
    optimizers = [
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for model in (by_hand, by_peft)
    ]
    largest = {"logits": 0.0, "gradients": 0.0, "weights": 0.0}

    def note(what, a, b):
        assert a.isfinite().all()
        largest[what] = max(largest[what], (a - b).abs().max().item())

    start = by_hand(ids, mask).detach()
    for _ in range(10):
        logits = by_hand(ids, mask), by_peft(input_ids=ids, attention_mask=mask).logits
        note("logits", *logits)
        for one, optimizer in zip(logits, optimizers, strict=True):
            optimizer.zero_grad()
            cross_entropy(one, LABELS).backward()
        for name, parameter in by_hand.trainable_parameters().items():
            note("gradients", parameter.grad, named[partners[name]].grad)
        for optimizer in optimizers:
            optimizer.step()
    for name, parameter in by_hand.trainable_parameters().items():
        note("weights", parameter, named[partners[name]])
    print(family, targets, *(f"{what} {size:.1e}" for what, size in largest.items()))
    assert max(largest.values()) < TOLERANCE
    assert (by_hand(ids, mask) - start).abs().max() > 1e-3  # the ten steps went somewhere
