"""Methods are the same as a reference, in float64: HF peft, or plain tensor operations.

pytest tests/test_reference.py -n 0 -s -k "steps or learns"
    prints the largest differences in logits, gradients, and weights after ten AdamW steps
"""

import warnings

import peft
import pytest
import torch
from conftest import randomised, tiny, tokens
from torch import nn
from torch.nn import functional as F

from modeling import METHODS, adapted_layers
from modeling.architectures import ARCHITECTURES
from modeling.reft import chosen_tokens

TOLERANCE = 1e-10
LABELS = torch.tensor([0, 1, 1])
SIZES = {"dora": {"rank": 3}, "vera": {"rank": 3}, "ia3": {}, "ln": {}, "reft": {"rank": 2}}
PEFT = {  # our method and its choice, and what else peft is told
    "lora": ("lora", {"rank": 3, "alpha": 5}, {}),
    "lora of all matrices": ("lora", {"rank": 3, "alpha": 5, "targets": None}, {}),
    "rslora": ("lora", {"rank": 3, "alpha": 5, "rslora": True}, {"use_rslora": True}),
    "dora": ("dora", SIZES["dora"], {"use_dora": True}),
    "vera": ("vera", SIZES["vera"], {}),
    "ia3": ("ia3", {}, {}),
    "ln": ("ln", {}, {}),
}


def config_of(method, model, **more):
    """peft's config of the same method on the same layers, head included."""
    row, layers = model.architecture, list(adapted_layers(model))
    common = {"task_type": "SEQ_CLS", "modules_to_save": list(row.head)}
    common["target_modules"] = layers
    if method == "ln":
        norms = [f"{row.blocks}.{i}.{p}" for i in range(len(model.blocks)) for p in row.norms]
        modules = dict(model.pretrained.named_modules())
        common["target_modules"] = [n for n in norms if list(modules[n].parameters())]
        return peft.LNTuningConfig(**common)
    if method == "ia3":
        down = [layer for layer in layers if layer.endswith(row.projections["down"])]
        return peft.IA3Config(**common, feedforward_modules=down)
    if method == "vera":
        return peft.VeraConfig(**common, r=3)
    return peft.LoraConfig(**common, r=3, lora_alpha=model.hyperparameters["alpha"], **more)


PEFTS_NAMES = {  # ours: peft's
    ".dora_A": ".lora_A.default.weight",
    ".dora_B": ".lora_B.default.weight",
    ".magnitude": ".lora_magnitude_vector.default.weight",
    ".lora_A": ".lora_A.default.weight",
    ".lora_B": ".lora_B.default.weight",
    ".vera_d": ".vera_lambda_d.default",
    ".vera_b": ".vera_lambda_b.default",
    ".ia3_l": ".ia3_l.default",
}


def partner_of(name, named):
    """The one of peft's trained parameters that is our `name`."""
    for ours, theirs in PEFTS_NAMES.items():
        if name.endswith(ours):
            return f"base_model.model.{name.removesuffix(ours)}{theirs}"
    layer, _, kind = name.rpartition(".")
    layers = [layer.rsplit(".", i)[0] for i in range(3)]
    rest = [f"{layer}.{kind}".removeprefix(head) for head in layers]
    saved = [f"{a}.modules_to_save.default{b}" for a, b in zip(layers, rest, strict=True)]
    options = [*saved, f"{layer}.ln_tuning_layers.default.{kind}"]
    return next(o for o in (f"base_model.model.{option}" for option in options) if o in named)


def wrap(base, config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(base, config).double().eval()


def pairs(by_hand, by_peft):
    """Our trained parameters and peft's, by our names; peft's are flattened into our shapes."""
    named = dict(by_peft.named_parameters())
    found = {n: (p, named[partner_of(n, named)]) for n, p in by_hand.trainable_parameters().items()}
    trained = {id(p) for p in by_peft.parameters() if p.requires_grad}
    assert trained == {id(other) for _, other in found.values()}
    return found


def logits_of(by_peft):
    return lambda ids, mask: by_peft(input_ids=ids, attention_mask=mask).logits


def adamw(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def compare(what, by_hand, reference, optimizers, same):
    """Ten steps of both from the same weights; prints and bounds the largest differences.

    `reference` makes logits of ids and mask; `same` has our parameter and the reference's by name.
    """
    ids, mask = tokens()
    for parameter, other in same.values():
        other.data.copy_(parameter.data.view(other.shape))
    largest = {"logits": 0.0, "gradients": 0.0, "weights": 0.0}

    def note(what, a, b):
        assert a.isfinite().all()
        largest[what] = max(largest[what], (a - b.view(a.shape)).abs().max().item())

    start = by_hand(ids, mask).detach()
    for _ in range(10):
        logits = by_hand(ids, mask), reference(ids, mask)
        note("logits", *logits)
        for one, optimizer in zip(logits, optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(one, LABELS).backward()
        for parameter, other in same.values():
            note("gradients", parameter.grad, other.grad)
        for optimizer in optimizers:
            optimizer.step()
    for parameter, other in same.values():
        note("weights", parameter, other)
    print(f"{what:25}", *(f"{what} {size:.1e}  " for what, size in largest.items()))
    assert max(largest.values()) < TOLERANCE
    assert (by_hand(ids, mask) - start).abs().max() > 1e-3  # the ten steps went somewhere


@pytest.mark.parametrize("what", PEFT)
def test_ten_steps_are_those_of_the_reference(family, what):
    method, choice, more = PEFT[what]
    if "targets" in choice:
        choice = choice | {"targets": tuple(ARCHITECTURES[family].projections)}
    by_hand = METHODS[method](tiny(family), **choice)
    by_peft = wrap(tiny(family), config_of(method, by_hand, **more))
    for parameter, other in pairs(by_hand, by_peft).values():
        if parameter.ndim == 1:  # m, b, d, l and the norms start as peft's
            assert (parameter - other.flatten()).abs().max() < 1e-6
    randomised(by_hand)
    optimizers, same = (adamw(by_hand), adamw(by_peft)), pairs(by_hand, by_peft)
    compare(f"{family} {what}", by_hand, logits_of(by_peft), optimizers, same)


def edited(h, free, W, b, chosen):
    """h + R^T (W h + b - R h) token by token, the rows of R by Gram and Schmidt."""
    rows = []
    for column in free.T:
        for row in rows:
            column = column - (row @ column) * row
        rows.append(column / (column @ column).sqrt())
    R = torch.stack(rows)
    texts = []
    for text, tokens_of_text in zip(h, chosen, strict=True):
        states = [*text]
        for i in tokens_of_text:
            states[i] = states[i] + R.T @ (W @ states[i] + b - R @ states[i])
        texts.append(torch.stack(states))
    return torch.stack(texts)


def test_loreft_steps_as_its_closed_form(family):
    by_hand = randomised(METHODS["reft"](tiny(family), rank=2, first=2, last=1))
    row, base = by_hand.architecture, tiny(family).requires_grad_(False)
    own = {n: nn.Parameter(p.detach().clone()) for n, p in by_hand.trainable_parameters().items()}
    lengths = tokens()[1].sum(1).tolist()
    chosen = [{0, 1, length - 1} for length in lengths]
    for i, block in enumerate(base.get_submodule(row.blocks)):
        free, W, b = (own[f"{row.blocks}.{i}.reft.{name}"] for name in ("free", "W", "b"))

        def edit(block, inputs, output, free=free, W=W, b=b):
            whole = isinstance(output, torch.Tensor)
            h = edited(output if whole else output[0], free, W, b, chosen)
            return h if whole else (h, *output[1:])

        block.register_forward_hook(edit)
    head = {name: p for name, p in own.items() if row.in_head(name)}

    def reference(ids, mask):
        options = {"input_ids": ids, "attention_mask": mask}
        return torch.func.functional_call(base, head, (), options).logits

    same = {n: (p, own[n]) for n, p in by_hand.trainable_parameters().items()}
    optimizers = adamw(by_hand), torch.optim.AdamW(own.values(), lr=1e-2)
    compare(f"{family} reft", by_hand, reference, optimizers, same)


def test_the_chosen_tokens_are_the_first_and_the_last_real_ones_wherever_padding_is():
    mask = [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]]
    mask = torch.tensor(mask)
    expected = [[1, 1, 0, 0, 0, 1], [1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0]]
    assert chosen_tokens(mask, first=2, last=1).int().tolist() == expected
    assert chosen_tokens(mask, first=None, last=0).int().tolist() == mask.tolist()
