"""The file holds the trained tensors and nothing else, and brings them back to the last bit."""

import pytest
import torch
from conftest import tiny, tokens
from safetensors.torch import load_file, save_file

from modeling import METHODS
from modeling.checkpoint import load_trained, save_trained


def trained(method, family="bert"):
    model = METHODS[method](tiny(family)).eval()
    torch.manual_seed(2)
    for parameter in model.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_reloaded_model_gives_bit_equal_logits(family, method, tmp_path):
    model, path = trained(method, family), tmp_path / "trained.safetensors"
    size = save_trained(model, path)
    assert size == path.stat().st_size
    assert load_file(path).keys() == model.trainable_parameters().keys()
    fresh = METHODS[method](tiny(family)).eval()
    assert not torch.equal(fresh(*tokens()), model(*tokens()))
    load_trained(fresh, path)
    assert torch.equal(fresh(*tokens()), model(*tokens()))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.pop("classifier.weight"), "lacks the trained tensor classifier.weight"),
        (lambda t: t.update(extra=torch.zeros(1)), "has extra, which this model does not train"),
        (
            lambda t: t.update({"classifier.bias": torch.zeros(3)}),
            r"has shape \(3,\), expected \(2,\)",
        ),
    ],
)
def test_wrong_tensors_are_refused_and_nothing_is_loaded(tmp_path, change, line):
    path = tmp_path / "trained.safetensors"
    save_trained(trained("lora"), path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    fresh = METHODS["lora"](tiny()).eval()
    before = fresh(*tokens())
    with pytest.raises(ValueError, match=line):
        load_trained(fresh, path)
    assert torch.equal(fresh(*tokens()), before)
