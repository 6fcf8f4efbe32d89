"""BitFit trains the blocks' biases and the head, and nothing else."""

import pytest
import torch
from conftest import tiny, tokens

from modeling import METHODS, BitFitModel


def test_trainable_names_are_the_biases_and_the_head():
    model = BitFitModel(tiny("distilbert"))
    names = set(model.trainable_parameters())
    head = {
        f"{layer}.{k}" for layer in ("pre_classifier", "classifier") for k in ("weight", "bias")
    }
    every = dict(tiny("distilbert").named_parameters())
    biases = {n for n in every if ".layer." in n and n.endswith(".bias")}
    assert len(biases) == 2 * 8  # four of attention, two of the feed-forward layer, two norms
    assert names == head | biases


def test_bitfit_starts_as_the_pretrained_model():
    model = BitFitModel(tiny()).eval()
    ids, mask = tokens()
    logits = model.pretrained(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(logits, tiny()(ids, attention_mask=mask).logits)


@pytest.mark.parametrize("family", ["llama", "qwen3", "modernbert"])
def test_a_family_without_biases_is_refused(family):
    with pytest.raises(ValueError, match=f"the {family} family has no biases"):
        METHODS["bitfit"](tiny(family))
