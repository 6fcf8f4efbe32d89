"""The forward pass over a split: every text in its place, whatever the micro-batches and modes."""

import numpy as np
import pytest
import torch
from conftest import tiny
from test_training import tokenised

from modeling import METHODS
from modeling.inference import features, features_of, logits_of, predict, tokens_at_once

pytestmark = pytest.mark.usefixtures("in_float32_on_the_cpu")


@pytest.mark.parametrize("pooling", ["first", "mean", "layers"])
def test_logits_and_features_of_each_text_are_those_of_the_text_alone(pooling):
    model, split = METHODS["head"](tiny("bert").float(), pooling), tokenised(13)
    torch.nn.init.normal_(list(model.trainable_parameters().values())[0])
    model.train()  # its head has dropout
    logits, vectors = predict(model, split, 40), features(model, split, 40)
    assert not model.training and not logits.requires_grad
    assert vectors.shape == ((13, 3, 8) if pooling == "layers" else (13, 8))
    for i in range(13):
        batch = split.batch(np.array([i]))
        assert torch.allclose(logits_of(model, batch)[0], logits[i], atol=1e-5)
        assert np.allclose(features_of(model, batch)[0].detach(), vectors[i], atol=1e-5)


def test_longer_texts_take_no_more_memory_of_a_gpu():
    """A step of LoRA in a ModernBERT at 32 texts of 8,192 tokens would take over 200 GiB."""
    gpu = torch.device("cuda")
    tokens = [tokens_at_once(most, gpu, training=True) for most in (128, 512, 8192)]
    assert tokens == [32 * 128, 32 * 512, 32 * 512]


def test_no_value_is_read_from_the_device_before_the_last_batch(monkeypatch):
    events, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: events.append("read") or cpu(t))
    model, split = METHODS["head"](tiny("bert").float()), tokenised(9)
    encode = model.encode
    model.encode = lambda *given: events.append("batch") or encode(*given)
    predict(model, split, 20)
    assert events[-1] == "read" and set(events[:-1]) == {"batch"} and len(events) > 3
