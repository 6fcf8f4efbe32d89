"""One load of an encoder: copies that are as good as loading anew, and what a digest leaves out.

That a digest notices a changed encoder: tests/test_checkpoint.py and tests/test_runs.py.
"""

import shutil

import pytest
import torch
from conftest import tiny

from modeling import LoRAModel, fresh_copy, load_encoder
from modeling.loading import load_config, load_pretrained


def loaded(folder, labels=("bad", "good"), dropout=None, max_tokens=16):
    return load_encoder(str(folder), list(labels), max_tokens, encoder_dropout=dropout)


@pytest.fixture
def saved(tmp_path):
    """A function that saves an encoder without a head, as most are, of any family."""

    def save(family):
        tiny(family).float().base_model.save_pretrained(tmp_path / family)
        return str(tmp_path / family)

    return save


def test_a_fresh_copy_is_the_model_that_loading_again_with_its_seed_gives(family, saved):
    folder = saved(family)
    config = load_config(folder, ["a", "b", "c"])
    config.pad_token_id = 0
    pretrained = load_pretrained(folder, config)
    assert pretrained.new_tensors
    for seed in (1, 2):
        torch.manual_seed(seed)
        anew, number = load_pretrained(folder, config), torch.rand(1)
        torch.manual_seed(seed)
        fresh = fresh_copy(pretrained)
        assert torch.rand(1) == number  # and the method's own weights are drawn as before
        assert fresh.state_dict().keys() == anew.state_dict().keys()
        for name, tensor in anew.state_dict().items():
            assert torch.equal(fresh.state_dict()[name], tensor), name


def test_a_copy_shares_nothing_with_what_it_is_a_copy_of(saved):
    folder = saved("bert")
    pretrained = load_pretrained(folder, load_config(folder, ["a", "b"]))
    before = {name: tensor.clone() for name, tensor in pretrained.state_dict().items()}
    model = LoRAModel(fresh_copy(pretrained), rank=2)
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    after = pretrained.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in pretrained.parameters())


def test_a_digest_is_the_same_whatever_changes_no_number(model_folder, saved):
    digest = loaded(model_folder).digest
    assert loaded(model_folder, ("no", "yes"), dropout=0.2, max_tokens=8).digest == digest
    headless = saved("bert")  # a new head is random
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder / name, headless)
    digests = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        digests.add(loaded(headless).digest)
    assert len(digests) == 1 and digest not in digests
    used = loaded(model_folder)
    used.tokenizer(["good film"] * 2, truncation=True, padding=True)
    assert used.digest == digest
