"""What holds for every method, and what each adds."""

import inspect

import pytest
import torch
from conftest import tiny, tokens
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, DistilBertConfig
from transformers import AutoModelForSequenceClassification as Classifier

from modeling import METHODS, AdapterModel, HeadOnlyModel, LoRAModel
from modeling.architectures import ARCHITECTURES, architecture_of


def step(model):
    """One step of SGD with a large rate on a tiny batch."""
    ids, mask = tokens()
    loss = F.cross_entropy(model(ids, mask), torch.tensor([0, 1, 1]))
    loss.backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.data -= 0.1 * parameter.grad


def whole(model):
    """The logits by transformers' own forward."""
    ids, mask = tokens()
    return model.pretrained(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("method", ["head", "adapter", "lora", "full"])
def test_encode_then_classify_is_the_transformers_forward_with_its_gradients(family, method):
    ids, mask = tokens()
    model = METHODS[method](tiny(family)).eval()
    both = model.classify(model.encode(ids, mask)), whole(model)
    assert (both[0] - both[1]).abs().max() < 1e-12
    trained = list(model.trainable_parameters().values())
    pairs = [torch.autograd.grad(logits.square().sum(), trained) for logits in both]
    for mine, other in zip(*pairs, strict=True):
        assert (mine - other).abs().max() < 1e-12 * max(1, other.abs().max())


def test_adapters_start_near_the_pretrained_model_and_not_elsewhere(family):
    ids, mask = tokens()
    model = AdapterModel(tiny(family), bottleneck=4).eval()
    expected = tiny(family)(ids, attention_mask=mask).logits
    assert 0 < (model(ids, mask) - expected).abs().max() < 1e-2 * expected.abs().max()
    for block in model.blocks:
        for path in model.architecture.sublayer_outputs:
            nn.init.zeros_(block.get_submodule(path).adapter.up.weight)
    assert torch.equal(whole(model), expected)


@pytest.mark.parametrize("method", ["head", "adapter", "lora", "full"])
def test_only_the_named_parameters_move(family, method):
    torch.manual_seed(0)
    model = METHODS[method](tiny(family)).train()
    named = set(model.trainable_parameters())
    before = {name: p.clone() for name, p in model.pretrained.named_parameters()}
    # B = 0 hides A from the gradient, so A moves from the second step on.
    step(model), step(model)
    after = dict(model.pretrained.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved <= named
    # Softmax is blind to a constant, so a key's bias has no gradient but rounding.
    assert all(name.endswith(("key.bias", "k_lin.bias", "attn.k.bias")) for name in named - moved)


def test_trainable_names_of_head_lora_and_full_are_exactly_the_expected_ones():
    head = {
        f"{layer}.{kind}"
        for layer in ("pre_classifier", "classifier")
        for kind in ("weight", "bias")
    }
    assert set(HeadOnlyModel(tiny("distilbert")).trainable_parameters()) == head

    blocks = [f"distilbert.transformer.layer.{i}" for i in range(2)]
    lora = {
        f"{block}.attention.{target}.lora_{letter}"
        for block in blocks
        for target in ("q_lin", "v_lin")
        for letter in "AB"
    }
    model = LoRAModel(tiny("distilbert"), targets=("q", "v"))
    assert set(model.trainable_parameters()) == head | lora

    every = {name for name, _ in tiny("distilbert").named_parameters()}
    assert set(METHODS["full"](tiny("distilbert")).trainable_parameters()) == every


def test_bitfit_trains_the_biases_of_the_blocks_and_the_head():
    model = METHODS["bitfit"](tiny("distilbert"))
    every = dict(tiny("distilbert").named_parameters())
    biases = {n for n in every if ".layer." in n and n.endswith(".bias")}
    assert len(biases) == 2 * 8  # four of attention, two of the feed-forward layer, two norms
    head = set(METHODS["head"](tiny("distilbert")).trainable_parameters())
    assert set(model.trainable_parameters()) == head | biases
    with pytest.raises(ValueError, match="the llama family has no biases"):
        METHODS["bitfit"](tiny("llama"))


def test_counts_match_the_closed_forms_for_distilbert_base():
    d, f, blocks, m, r = 768, 3072, 6, 64, 16
    head, total = 592_130, 66_955_010

    def counts(method, **hyperparameters):
        with torch.device("meta"):
            model = METHODS[method](Classifier.from_config(DistilBertConfig()), **hyperparameters)
        return model.count_parameters()

    assert counts("head") == (head, total)
    assert 100 * head / total == pytest.approx(0.8844, abs=5e-5)
    assert counts("full") == (total, total)
    lora = blocks * 4 * 2 * d * r
    assert lora == 589_824
    assert counts("lora", rank=r) == (head + lora, total + lora)
    adapters, norms = 2 * blocks * (2 * d * m + m + d), 18_432
    assert counts("adapter", bottleneck=m) == (head + adapters + norms, total + adapters)
    assert counts("dora")[0] == head + blocks * 4 * (2 * d * r + d)
    assert counts("vera")[0] == head + blocks * 4 * (d + 256)
    assert counts("ia3")[0] == head + blocks * (2 * d + f)
    assert counts("ln")[0] == head + norms
    assert counts("reft")[0] == head + blocks * (2 * 4 * d + 4)


def test_adapter_block_is_figure_2_in_plain_tensor_operations():
    """DistilBERT's block recomputed with nothing of this package and nothing of its own forward."""
    torch.manual_seed(0)
    model = AdapterModel(tiny("distilbert"), bottleneck=3).eval()
    for parameter in model.trainable_parameters().values():
        nn.init.normal_(parameter, std=0.5)
    block = model.blocks[0]
    w = dict(block.named_parameters())
    x = torch.randn(2, 5, 8, dtype=torch.float64)

    def linear(name, h):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, h):
        h = (h - h.mean(-1, keepdim=True)) / (
            h.var(-1, keepdim=True, unbiased=False) + 1e-12
        ).sqrt()
        return h * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(h):
        return h * (1 + torch.erf(h / 2**0.5)) / 2

    def adapter(name, h):
        return h + linear(f"{name}.adapter.up", gelu(linear(f"{name}.adapter.down", h)))

    q, k, v = (
        linear(f"attention.{n}_lin", x).view(2, 5, 2, 4).transpose(1, 2) for n in ("q", "k", "v")
    )
    mixed = torch.softmax(q @ k.mT / 2, -1) @ v  # (N, H, T, d / H), d / H = 4
    mixed = mixed.transpose(1, 2).reshape(2, 5, 8)
    a = adapter("attention.out_lin", linear("attention.out_lin.projection", mixed))
    h = norm("sa_layer_norm", x + a)
    f = linear("ffn.lin2.projection", gelu(linear("ffn.lin1", h)))
    expected = norm("output_layer_norm", h + adapter("ffn.lin2", f))
    assert (block(x) - expected).abs().max() < 1e-10


def test_adapters_train_themselves_the_blocks_norms_and_the_head_in_every_family(family):
    model = AdapterModel(tiny(family))
    before = {name for name, _ in tiny(family).named_parameters()}
    after = {n.replace(".projection.", ".") for n, _ in model.pretrained.named_parameters()}
    inside = f"{model.architecture.blocks}."
    norms = {n for n in before if inside in n and "norm" in n.lower() and "self_attn" not in n}
    head = {n for n in before if n.startswith(("classifier.", "pre_classifier.", "score."))}
    head |= {n for n in before if "pooler." in n or n.startswith("head.")}
    assert set(model.trainable_parameters()) == (after - before) | norms | head


def test_unknown_family_lists_the_known_ones():
    known = ", ".join(ARCHITECTURES)
    with pytest.raises(ValueError, match=f"'gpt2'; choose a model of {known}, or add a row"):
        architecture_of(AutoConfig.for_model("gpt2"))


@pytest.mark.parametrize("file", [inspect.getfile(method) for method in METHODS.values()])
def test_a_methods_file_is_short(file):
    with open(file, encoding="utf-8") as source:
        assert len(source.readlines()) <= 100
