"""One load of an encoder: copies that are as good as loading anew, and a digest that notices."""

import json
import shutil

import pytest
import torch
from conftest import tiny

from modeling import (
    LoRAModel,
    encoder_digest,
    fresh_copy,
    load_config,
    load_pretrained,
    load_tokenizer,
)
from modeling.loading import load_config as load_config_of


def loaded(folder, labels=("bad", "good"), dropout=None, max_tokens=16):
    """Config, tokenizer and classifier, and their digest."""
    config = load_config(str(folder), list(labels), dropout)
    tokenizer = load_tokenizer(str(folder), config, max_tokens)
    pretrained = load_pretrained(str(folder), config)
    return pretrained, encoder_digest(str(folder), config, tokenizer, pretrained)


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
    model = LoRAModel(fresh_copy(pretrained), pissa=True, rank=2)  # it changes frozen weights too
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    after = pretrained.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in pretrained.parameters())


def in_file(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def in_weights(name):
    def change(folder):
        config = load_config_of(str(folder), ["bad", "good"])
        pretrained = load_pretrained(str(folder), config)
        with torch.no_grad():
            pretrained.get_parameter(name).add_(1e-3)
        pretrained.save_pretrained(folder)

    return change


def lower_casing(folder):
    file = folder / "tokenizer.json"
    rules = json.loads(file.read_text())
    rules["normalizer"]["lowercase"] = not rules["normalizer"]["lowercase"]
    file.write_text(json.dumps(rules))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["do_lower_case"] = rules["normalizer"]["lowercase"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    "change",
    [
        in_file("config.json", '"hidden_act": "gelu"', '"hidden_act": "relu"'),
        in_file("config.json", '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-5'),
        in_file("tokenizer.json", '"dull"', '"boring"'),
        lower_casing,
        in_weights("bert.encoder.layer.1.output.dense.bias"),
        in_weights("bert.pooler.dense.weight"),
        in_weights("classifier.bias"),
    ],
    ids=["activation", "norm", "vocabulary", "lower-casing", "block", "pooler", "head"],
)
def test_a_digest_notices_all_that_changes_a_number(model_folder, tmp_path, change):
    folder = shutil.copytree(model_folder, tmp_path / "changed")
    digest = loaded(folder)[1]
    change(folder)
    assert loaded(folder)[1] != digest


def test_a_digest_is_the_same_whatever_changes_no_number(model_folder, tmp_path, saved):
    folder = shutil.copytree(model_folder, tmp_path / "elsewhere")
    pretrained, digest = loaded(model_folder)
    in_file("config.json", '"hidden_dropout_prob": 0.0', '"hidden_dropout_prob": 0.3')(folder)
    for other in (loaded(folder), loaded(folder, ("no", "yes")), loaded(folder, dropout=0.2)):
        assert other[1] == digest
    assert loaded(model_folder, max_tokens=8)[1] == digest
    headless = saved("bert")  # a new head is random
    shutil.copy(model_folder / "tokenizer.json", headless)
    shutil.copy(model_folder / "tokenizer_config.json", headless)
    digests = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        digests.add(loaded(headless)[1])
    assert len(digests) == 1 and digest not in digests
    # What the tokenizer has been used for does not count.
    config = load_config(str(model_folder), ["bad", "good"])
    tokenizer = load_tokenizer(str(model_folder), config, 16)
    tokenizer(["good film"] * 2, truncation=True, padding=True)
    assert encoder_digest("x", config, tokenizer, pretrained) == digest
