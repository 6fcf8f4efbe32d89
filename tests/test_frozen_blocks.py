"""The frozen blocks: which they are, and that running them once changes no number.

In every family, at every depth, with every pooling and method.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CONFIGS, randomised, tiny, tokens
from scipy.special import log_softmax
from test_training import tokenised
from torch.nn import functional as F

import finetuning
from data_utils import load_task
from modeling import METHODS, load_finetuned, use_fast_attention
from modeling.architectures import ARCHITECTURES
from modeling.frozen_blocks import begin_alike, running_from, states_after
from modeling.methods import hyperparameters_of
from modeling.pooling import POOLINGS

L = 4  # blocks
SLIDING = {"use_sliding_window": True, "sliding_window": 3}
SLIDING["layer_types"] = ["full_attention", "sliding_attention"] * (L // 2)
MIXED = {"qwen2": SLIDING, "qwen3": SLIDING}  # what makes the blocks of a family unlike
MIXED["modernbert"] = {"global_attn_every_n_layers": 3}  # global, local, local, global
VARIANTS = {"deberta-v2 with conv": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"})}


@pytest.fixture(params=[*CONFIGS, *VARIANTS])
def deep(request):
    """A function that makes the same classifier of four blocks at each call."""
    family, changes = VARIANTS.get(request.param, (request.param, {}))
    return lambda: tiny(family, layers=L, **MIXED.get(family, {}), **changes)


def same_logits_and_gradients(model, frozen):
    """Of the whole pass, and from the output of the frozen blocks, to rounding in float64."""
    trained, labels = list(model.trainable_parameters().values()), torch.tensor([0, 1, 1])
    logits = [model(*tokens()), model.classify(model.encode(*tokens(), frozen))]
    losses = [F.cross_entropy(each, labels) for each in logits]
    gradients = [torch.autograd.grad(loss, trained, materialize_grads=True) for loss in losses]
    gradients = [torch.cat([gradient.flatten() for gradient in each]) for each in gradients]
    for whole, part in (logits, gradients):
        assert (whole - part).abs().max() < 1e-12 * max(1, whole.abs().max())
    assert gradients[0].any()


@pytest.mark.parametrize("blocks", range(L))
@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_and_gradients_from_frozen_states_are_those_of_the_whole_pass(deep, pooling, blocks):
    model = randomised(METHODS["lora"](deep(), pooling, blocks=blocks))
    use_fast_attention(model.pretrained, torch.device("cpu"))
    assert model.frozen_blocks == L - blocks
    frozen = model.frozen_states(*tokens())
    same_logits_and_gradients(model, frozen)
    if blocks:  # padding is never attended to, so its states may be any numbers
        frozen.hidden[tokens()[1] == 0] = torch.randn(8, dtype=torch.float64)
        same_logits_and_gradients(model, frozen)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_frozen_states_give_the_logits_of_the_whole_pass_with_every_method(method, pooling):
    choice = {"blocks": 2} if "blocks" in hyperparameters_of(method) else {}
    if not choice and method != "head":
        pytest.skip("without `blocks` a method may leave no block frozen")
    model = randomised(METHODS[method](tiny(layers=L), pooling, **choice))
    assert model.frozen_blocks >= 2
    same_logits_and_gradients(model, model.frozen_states(*tokens()))


def test_the_model_is_afterwards_as_before_whatever_is_raised(deep):
    model = randomised(METHODS["adapter"](deep(), blocks=2))
    whole, states = model(*tokens()), states_after(model.pretrained, 2, *tokens())
    names, attributes = list(model.state_dict()), {m: {*vars(m)} for m in model.modules()}
    with pytest.raises(KeyError), running_from(model.pretrained, 2, states + 1):
        assert not torch.equal(model(*tokens()), whole)
        assert names == list(model.state_dict())
        raise KeyError
    assert attributes == {m: {*vars(m)} for m in model.modules()}
    assert torch.equal(model(*tokens()), whole)


def test_frozen_states_are_refused_where_no_block_is_frozen():
    model = METHODS["full"](tiny(layers=L))
    with pytest.raises(ValueError, match="no block is frozen"):
        model.encode(*tokens(), model.frozen_states(*tokens()))


def test_no_pass_of_a_decoder_keeps_keys_and_values():
    model = METHODS["lora"](tiny("llama"))
    assert model.pretrained.base_model(*tokens()).past_key_values is None


def test_no_block_is_frozen_where_embeddings_or_shared_positions_are_trained():
    for family, shared in (("bert", "bert.embeddings"), ("mpnet", "relative_attention_bias")):
        model = METHODS["lora"](tiny(family, layers=L), blocks=1)
        for name, parameter in model.pretrained.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or shared in name)
        assert model.frozen_blocks == 0


@pytest.mark.usefixtures("without_figures", "on_the_cpu")
def test_training_from_cached_output_ends_as_without_which_writes_none(command, tmp_path, cache):
    methods = ["probe", "head", "adapter", "lora", "bitfit(learning_rate=0.01)", "full"]
    given = ["--methods", *methods, "--blocks", "1", "--lora-dropout", "0.1", "--patience", "1"]
    given += ["--epochs", "4", "--evaluations-per-epoch", "2"]
    assert finetuning.main(command(*given, "--no-cache", results="without")) == 0
    assert not cache.exists()
    assert finetuning.main(command(*given, "--cache", results="with")) == 0
    cached, without = (tmp_path / results / "tiny" for results in ("with", "without"))
    names = sorted(path.parent.name for path in without.glob("*/predictions.csv"))
    assert len(names) == 6
    for name in names:
        files = ("predictions.csv", "history.csv")
        for file in files[:1] if name.startswith("probe") else files:
            tables = [pd.read_csv(folder / name / file) for folder in (cached, without)]
            one, two = (table.drop(columns="seconds", errors="ignore") for table in tables)
            assert (one - two).abs().max().max() < 1e-5
    assert (pd.read_csv(cached / "runs.csv")["shared_seconds"] > 0).all()
    assert (pd.read_csv(without / "runs.csv")["shared_seconds"] == 0).all()


def test_frozen_blocks_have_no_dropout_in_training_and_the_others_do(family):
    rates = {rate: 0.5 for rate in ARCHITECTURES[family].encoder_dropouts}
    model = METHODS["lora"](tiny(family, layers=3, **rates).float(), blocks=1)
    model = randomised(model).train()
    batch = tokenised(6).batch(np.arange(6))
    frozen = model.frozen_states(*batch.tokens)
    assert torch.equal(frozen.hidden, model.frozen_states(*batch.tokens).hidden)
    assert torch.equal(frozen.hidden, model.eval().frozen_states(*batch.tokens).hidden)
    model.train()
    for given in (None, frozen):
        one, two = (model.encode(*batch.tokens, given) for _ in range(2))
        assert not torch.equal(one, two)


def rounded(model):  # the embedding of one token
    model.pretrained.bert.embeddings.word_embeddings.weight.data[15].round_(decimals=2)


def doubled(block, inputs):
    return 2 * inputs[0], *inputs[1:]


def hooked(model):
    model.blocks[0].register_forward_pre_hook(doubled)


def patched(model):
    attention = model.blocks[0].attention.self
    attention.scaling = 2 * attention.scaling


@pytest.mark.usefixtures("without_figures", "on_the_cpu")
@pytest.mark.parametrize("change", [rounded, hooked, patched])
def test_a_method_that_changes_frozen_blocks_is_refused_but_without_the_cache(
    command, reviews_csv, monkeypatch, tmp_path, capsys, change
):
    class Mine(METHODS["lora"]):
        def adapt(self):
            super().adapt(blocks=1)
            change(self)

    monkeypatch.setitem(METHODS, "mine", Mine)
    given = "--methods", "mine(learning_rate=0.01)", "--epochs", "1"
    assert finetuning.main(command(*given, "--cache")) == 1
    line = "mine(learning_rate=0.01) changes the encoder before block 1, where nothing is trained"
    assert line in capsys.readouterr().err
    assert finetuning.main(command(*given, "--no-cache")) == 0
    (run,) = (tmp_path / "results" / "tiny").glob("mine*")
    table = pd.read_csv(run / "predictions.csv")
    logits = table.filter(like="logit_").to_numpy()
    classify = load_finetuned(run)
    texts = load_task(str(reviews_csv)).rows["text"]
    found = classify.probabilities(texts.iloc[table["row"]]).log().numpy()
    assert found == pytest.approx(log_softmax(logits, axis=1), abs=1e-4)


def test_models_begin_alike_up_to_the_first_block_that_differs(deep):
    one, other = deep(), deep()
    assert all(begin_alike(one, other, k) for k in range(1, L + 1))
    blocks = one.get_submodule(ARCHITECTURES[one.config.model_type].blocks)
    blocks[2].register_forward_pre_hook(doubled)
    found = [begin_alike(one, other, k) for k in range(1, L + 1)]
    assert found == [True, True, False, False]
