"""What each method trains, adds and refuses; where it starts; merging, dropout and bf16.

That methods step as references do: test_reference.py.
"""

import pytest
import torch
from conftest import randomised, tiny, tokens
from test_reference import SIZES
from torch import nn
from transformers import AutoConfig, DistilBertConfig
from transformers import AutoModelForSequenceClassification as Classifier

from boundary import BadInput
from modeling import METHODS, AdapterModel, BottleneckAdapter, LoRALinear, adapted_layers, merge
from modeling.architectures import ARCHITECTURES, architecture_of
from modeling.dora import DoRALinear
from modeling.reft import LoReFT

OF_BLOCKS = SIZES | {"lora": {"rank": 3}}


@pytest.mark.parametrize("method", ["head", "adapter", "lora", "full"])
def test_encode_then_classify_is_the_transformers_forward_with_its_gradients(family, method):
    ids, mask = tokens()
    model = METHODS[method](tiny(family)).eval()
    theirs = model.pretrained(input_ids=ids, attention_mask=mask).logits
    both = model.classify(model.encode(ids, mask)), theirs
    assert (both[0] - both[1]).abs().max() < 1e-12
    trained = list(model.trainable_parameters().values())
    pairs = [torch.autograd.grad(logits.square().sum(), trained) for logits in both]
    for mine, other in zip(*pairs, strict=True):
        assert (mine - other).abs().max() < 1e-12 * max(1, other.abs().max())


@pytest.mark.parametrize("method", [*SIZES, "head", "adapter", "lora", "full"])
def test_a_method_starts_as_the_pretrained_model_and_adapters_near_it(family, method):
    ids, mask = tokens()
    expected = tiny(family)(ids, attention_mask=mask).logits
    model = METHODS[method](tiny(family), **SIZES.get(method, {})).eval()
    if method == "adapter":
        assert 0 < (model(ids, mask) - expected).abs().max() < 1e-2 * expected.abs().max()
        for module in model.modules():
            if isinstance(module, BottleneckAdapter):
                nn.init.zeros_(module.up.weight)
    assert (model(ids, mask) - expected).abs().max() < 1e-12


def parameters_of_a_block(family):
    """In closed form: what each method trains of a block after the first.

    Width d, f of the feed-forward layer, kv of keys and values; rank r, bottleneck m.
    """
    d, f, kv, r, m = 8, 12, 4, 3, 64
    added = {"adapter": 2 * (2 * d * m + m + d), "reft": 2 * 2 * d + 2}
    if family == "modernbert":  # no biases; q, k, v in one matrix, the gate in another
        lora, vera, scales, norms = r * (d + 3 * d) + r * (d + d), 4 * d + 2 * r, 3 * d + f, 2 * d
        dora, full = lora + 4 * d, 4 * d * d + 3 * d * f + norms
        added["bitfit"] = 0
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
            with pytest.raises(BadInput, match=f"the {family} family has no biases"):
                METHODS[method](tiny(family))
            continue
        for blocks in (0, 1, 3, None):
            choice = OF_BLOCKS.get(method, {}) | {"blocks": blocks}
            model = METHODS[method](tiny(family, layers=4), **choice)
            trained, total = model.count_parameters()
            assert model.frozen_blocks == 4 - (4 if blocks is None else blocks)
            if blocks is None and method == "full":
                assert trained == total
            elif blocks is not None:  # the first block of ModernBERT has one norm
                assert trained == head + blocks * of_a_block


def test_counts_match_the_closed_forms_for_distilbert_base():
    d, blocks, m, r = 768, 6, 64, 16
    head, total = 592_130, 66_955_010
    lora, adapters, norms = blocks * 8 * d * r, 2 * blocks * (2 * d * m + m + d), 18_432
    expected = {"head": (head, total), "full": (total, total), "lora": (head + lora, total + lora)}
    expected["adapter"] = head + adapters + norms, total + adapters
    for method, counts in expected.items():
        with torch.device("meta"):
            model = METHODS[method](Classifier.from_config(DistilBertConfig()))
        assert model.count_parameters() == counts


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
        h = h - h.mean(-1, keepdim=True)
        h = h / (h.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return h * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(h):
        return h * (1 + torch.erf(h / 2**0.5)) / 2

    def adapter(name, h):
        return h + linear(f"{name}.adapter.up", gelu(linear(f"{name}.adapter.down", h)))

    q, k, v = (linear(f"attention.{n}_lin", x).view(2, 5, 2, 4).transpose(1, 2) for n in "qkv")
    mixed = torch.softmax(q @ k.mT / 2, -1) @ v  # (N, H, T, d / H), d / H = 4
    mixed = mixed.transpose(1, 2).reshape(2, 5, 8)
    a = adapter("attention.out_lin", linear("attention.out_lin.projection", mixed))
    h = norm("sa_layer_norm", x + a)
    f = linear("ffn.lin2.projection", gelu(linear("ffn.lin1", h)))
    expected = norm("output_layer_norm", h + adapter("ffn.lin2", f))
    assert (block(x) - expected).abs().max() < 1e-10


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


@pytest.mark.parametrize("method", ["lora", "dora", "vera", "ia3"])
def test_merging_gives_the_base_models_layers_and_the_same_logits(family, method):
    every = {"rank": 4, "targets": tuple(ARCHITECTURES[family].projections)}
    model = randomised(METHODS[method](tiny(family), **SIZES.get(method, every)))
    before = model(*tokens()).detach()
    merge(model)
    assert (before - model(*tokens())).abs().max() < 1e-10
    merged, plain = ({*map(type, each.modules())} for each in (model.pretrained, tiny(family)))
    assert merged == plain


def test_merging_rounds_once_whatever_the_models_type():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(64, 64).bfloat16(), rank=4, alpha=8)
    nn.init.normal_(layer.lora_B, std=0.01)
    exact = layer.linear.weight.double() + 2 * layer.lora_B.double() @ layer.lora_A.double()
    merged = layer.merged().weight
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, exact.bfloat16())


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
    layer.chosen = torch.ones(2, 5, dtype=torch.bool)
    exact = layer(h) - h
    with torch.autocast("cpu", torch.bfloat16):
        edit = layer(h) - h - layer(torch.zeros_like(h))
    assert (edit - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(
    ("method", "wrong", "line"),
    [
        ("lora", {"rank": 0}, "rank is 0"),
        ("lora", {"targets": ("q", "x")}, r"targets are \['q', 'x'\]; choose from"),
        ("lora", {"targets": ()}, "choose from"),
        ("lora", {"alpha": float("inf")}, "alpha is inf; expected a finite number above 0"),
        ("lora", {"dropout": 1.0}, "dropout is 1.0; expected 0 or more, and less than 1"),
        ("lora", {"blocks": -1}, "^blocks is -1; expected --blocks 0 to 2, which the model has$"),
        ("adapter", {"blocks": 3}, "^blocks is 3; expected --blocks 0 to 2, which the model has$"),
        ("adapter", {"bottleneck": 0}, "bottleneck is 0"),
        ("dora", {"alpha": float("nan")}, "alpha is nan"),
        ("dora", {"alpha": 0}, "alpha is 0; expected a finite number above 0"),
        ("vera", {"targets": ("x",)}, "targets are"),
        ("reft", {"rank": 9}, "rank is 9; expected 1 to 8"),
        ("reft", {"first": 0, "last": 0}, "expected one token or more"),
    ],
)
def test_wrong_hyperparameters_are_one_line(method, wrong, line):
    with pytest.raises(BadInput, match=line):
        METHODS[method](tiny(), **wrong)


def test_a_fused_matrix_is_adapted_whole_or_not_at_all():
    model = METHODS["lora"](tiny("modernbert"), targets=("q", "k", "v", "o"))
    assert len(adapted_layers(model)) == 2 * 2  # Wqkv and Wo in each block
    with pytest.raises(BadInput, match=r"keeps \['k', 'v'\] in the same matrix"):
        METHODS["lora"](tiny("modernbert"), targets=("q",))


def test_unknown_family_lists_the_known_ones():
    known = ", ".join(ARCHITECTURES)
    with pytest.raises(ValueError, match=f"'gpt2'; choose a model of {known}, or add a row"):
        architecture_of(AutoConfig.for_model("gpt2"))


def test_a_parameter_beside_the_model_is_refused():
    class Beside(METHODS["head"]):
        def adapt(self):
            self.gain = nn.Parameter(torch.ones(1))

    with pytest.raises(BadInput, match="put 'gain' beside the model.*; put it into self.pretrain"):
        Beside(tiny("bert"))


@pytest.mark.parametrize("method", METHODS)
def test_a_model_is_not_adapted_twice(method):
    first = METHODS["lora"](tiny())
    with pytest.raises(BadInput, match="has been adapted before; adapt a fresh_copy"):
        METHODS[method](first.pretrained)


def test_a_family_whose_blocks_share_weights_is_refused():
    model = tiny("bert", layers=1)
    model.config.num_hidden_layers = 2  # as ALBERT's, which has one block and runs it twice
    with pytest.raises(BadInput, match="encoder.layer has 1 blocks, the config 2; blocks that sh"):
        METHODS["head"](model)


def test_new_matrices_start_as_the_docstrings_say():
    torch.manual_seed(0)
    layer, most = nn.Linear(400, 50), 400**-0.5
    for A in (LoRALinear(layer, 16, 32).lora_A, DoRALinear(layer, 16, 32).dora_A):
        assert A.abs().max() <= most and A.std().item() == pytest.approx(most / 3**0.5, rel=0.05)
    adapter = BottleneckAdapter(400, 16)
    for layer in (adapter.down, adapter.up):  # a normal, cut at two standard deviations of 0.01
        assert layer.weight.abs().max() <= 0.02 and not layer.bias.any()
        assert layer.weight.std().item() == pytest.approx(0.0088, rel=0.05)
