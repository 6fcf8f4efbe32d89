"""One load of an encoder: copies that are as good as loading anew, and what a digest leaves out.

That a digest notices a changed encoder: tests/test_checkpoint.py and tests/test_mixing.py.
"""

import shutil

import pytest
import torch
from conftest import tiny
from transformers import AutoModel

from boundary import BadInput
from modeling import METHODS, LoRAModel, fresh_copy, load_encoder
from modeling.architectures import ARCHITECTURES


def loaded(folder, labels=("bad", "good"), dropout=None, max_tokens=16):
    return load_encoder(str(folder), list(labels), max_tokens, encoder_dropout=dropout)


@pytest.fixture
def saved(tmp_path, model_folder):
    """A function that saves an encoder without a head, as most are, of any family."""

    def save(family, **changes):
        tiny(family, **changes, vocab_size=21).float().base_model.save_pretrained(tmp_path / family)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(model_folder / name, tmp_path / family)
        return tmp_path / family

    return save


def test_a_fresh_copy_is_the_model_that_loading_again_with_its_seed_gives(family, saved):
    folder = saved(family)
    pretrained = loaded(folder, "abc").pretrained
    assert pretrained.new_tensors
    before = {name: tensor.clone() for name, tensor in pretrained.state_dict().items()}
    for seed in (1, 2):
        torch.manual_seed(seed)
        anew, number = loaded(folder, "abc").pretrained, torch.rand(1)
        torch.manual_seed(seed)
        fresh = fresh_copy(pretrained)
        assert torch.rand(1) == number  # and the method's own weights are drawn as before
        torch.testing.assert_close(fresh.state_dict(), anew.state_dict(), rtol=0, atol=0)
        for parameter in LoRAModel(fresh, rank=2).parameters():  # it shares nothing with the first
            parameter.data.fill_(1.0)
    torch.testing.assert_close(pretrained.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in pretrained.parameters())


def test_the_encoders_dropout_is_off_and_the_heads_as_it_was(family, saved):
    row = ARCHITECTURES[family]
    rates = {rate: 0.2 + i / 10 for i, rate in enumerate(row.encoder_dropouts)}
    folder = saved(family, **rates)
    before, config = (loaded(folder, dropout=dropout).config for dropout in (None, 0.0))
    assert {rate: getattr(before, rate) for rate in rates} == rates
    assert not any(getattr(config, rate) for rate in rates)
    if row.head_dropout:
        own = getattr(before, row.head_dropout, None)
        assert getattr(config, row.head_dropout) == (0.2 if own is None else own) != 0


def test_a_digest_is_the_same_whatever_changes_no_number(model_folder, saved):
    digest = loaded(model_folder).digest
    assert loaded(model_folder, ("no", "yes"), dropout=0.2, max_tokens=8).digest == digest
    headless = saved("bert")  # a new head is random
    digests = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        digests.add(loaded(headless).digest)
    assert len(digests) == 1 and digest not in digests
    used = loaded(model_folder)
    used.tokenizer(["good film"] * 2, truncation=True, padding=True)
    assert used.digest == digest


def test_more_tokens_than_positions_are_refused(family, saved):
    folder, most = saved(family), 16 if family in ("roberta", "xlm-roberta", "mpnet") else 18
    pretrained, ids = loaded(folder, max_tokens=most).pretrained, torch.full((1, most), 7)
    assert pretrained(ids, attention_mask=torch.ones_like(ids)).logits.isfinite().all()
    with pytest.raises(BadInput, match=f"has {most} positions; set it to {most} or less"):
        loaded(folder, max_tokens=most + 1)


@pytest.mark.parametrize("pad", [1, 3])
def test_whichever_token_pads_an_encoder_computes_what_it_does_in_transformers(family, saved, pad):
    """RoBERTa counts positions from the padding token of its config, which tokenizers may lack."""
    folder = saved(family, pad_token_id=pad)
    encoder, theirs = loaded(folder), AutoModel.from_pretrained(folder).eval()
    tokens = encoder.tokenizer(["a good film", "dull"], padding=True, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    features = METHODS["head"](encoder.pretrained, "mean").eval().encode(ids, mask)
    assert (features[0] - expected[0].mean(0)).abs().max() < 1e-5  # a text without padding
    assert (features[1] - expected[1][mask[1] == 1].mean(0)).abs().max() < 1e-5
