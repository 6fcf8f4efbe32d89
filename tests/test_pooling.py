"""Pooling: against transformers' hidden states, in every family and at every depth."""

import pytest
import torch
from conftest import randomised, tiny, tokens

from modeling import METHODS
from modeling.pooling import POOLINGS, LayersHead, mean_of_tokens

L = 3


def model_of(method, family, pooling, **choice):
    return randomised(METHODS[method](tiny(family, layers=L), pooling, **choice))


def means(family):
    """Of transformers' hidden states over the real tokens: (N, L + 1, d)."""
    ids, mask = tokens()
    model = tiny(family, layers=L).base_model
    outputs = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    hidden = torch.stack([*outputs.hidden_states[:L], outputs.last_hidden_state], 1)
    rows = zip(hidden, mask.sum(1).tolist(), strict=True)
    return torch.stack([each[:, :length].mean(1) for each, length in rows])


def test_features_are_means_of_transformers_hidden_states(family):
    expected = means(family)
    for pooling, rows in (("mean", expected[:, -1]), ("layers", expected)):
        features = METHODS["head"](tiny(family, layers=L), pooling).encode(*tokens())
        assert features.shape == rows.shape
        assert (features - rows).abs().max() < 1e-12 * rows.abs().max()


def test_the_familys_head_classifies_the_mean_as_it_does_its_own_token(family):
    model = METHODS["lora"](tiny(family, layers=L), "mean").eval()
    expected = model.architecture.classify(model.pretrained, means(family)[:, -1])
    assert (model(*tokens()) - expected).abs().max() < 1e-12


def test_the_head_of_layers_is_linear_in_the_normed_means_and_starts_at_zero():
    x, head = torch.randn(4, L + 1, 8), LayersHead(L + 1, 8, 3)
    assert (head(x) == 0).all()
    normed = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    W, b = torch.randn(3, L + 1, 8), torch.randn(3)
    head.linear.weight.data, head.linear.bias.data = W.flatten(1), b
    expected = torch.einsum("cjd,njd->ncj", W, normed).mean(2) + b
    assert torch.allclose(head(x), expected, atol=1e-5)


def test_means_are_in_float32_whatever_the_hidden_states_are_in():
    hidden, mask = torch.randn(2, 400, 8).bfloat16(), torch.ones(2, 400, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16):
        mean = mean_of_tokens(hidden, mask)
    assert mean.dtype == torch.float32 and torch.allclose(mean, hidden.float().mean(1), atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_never_counts(family, pooling):
    model, (ids, mask) = model_of("lora", family, pooling), tokens()
    other = ids.where(mask == 1, 17)
    rows = [(ids[i : i + 1, :n], mask[i : i + 1, :n]) for i, n in enumerate(mask.sum(1))]
    alone = torch.cat([model(*row) for row in rows])
    assert (model(other, mask) - alone).abs().max() < 1e-10


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_decoder_pools_the_last_real_token_on_whichever_side_the_padding_is(family):
    """transformers' own classifier finds it by the padding token's id."""
    model = METHODS["head"](tiny(family, layers=L)).eval()
    ids, mask = (rows.flip(1) for rows in tokens())
    theirs = tiny(family, layers=L)(input_ids=ids, attention_mask=mask).logits
    assert (model(ids, mask) - theirs).abs().max() < 1e-12
    rows = zip(ids, mask == 1, strict=True)
    alone = [model(row[real][None], real[real][None].long()) for row, real in rows]
    assert (model(ids, mask) - torch.cat(alone)).abs().max() < 1e-5  # angles are float32


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_block_runs_that_nothing_reads(family, pooling):
    model = model_of("lora", family, pooling, blocks=2)
    whole = model(*tokens())
    kept = {name: p.clone() for name, p in model.blocks.named_parameters()}
    for parameter in model.blocks[1:].parameters():
        parameter.data.fill_(torch.nan)
    frozen = model.frozen_states(*tokens())
    assert all(tensor.isfinite().all() for tensor in frozen if tensor is not None)
    model.blocks.load_state_dict(kept, strict=False)
    for parameter in model.blocks[0].parameters():
        parameter.data.fill_(torch.nan)
    assert (model.classify(model.encode(*tokens(), frozen)) - whole).abs().max() < 1e-10


def test_of_layers_the_linear_head_is_trained_and_the_familys_own_is_not(family):
    for method in ("head", "full"):
        model = METHODS[method](tiny(family, layers=L), "layers")
        heads = {name for name in model.trainable_parameters() if model.architecture.in_head(name)}
        assert heads == {"layers_head.linear.weight", "layers_head.linear.bias"}
    model = METHODS["head"](tiny(family, layers=L), "layers")
    config = model.pretrained.config
    assert model.frozen_blocks == L
    assert model.count_parameters()[0] == config.num_labels * ((L + 1) * config.hidden_size + 1)
