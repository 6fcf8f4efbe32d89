"""The arithmetic that the benchmarks hold speeds against, and that every system trains."""

import numpy as np
import pytest
import torch
from conftest import tiny
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.limit import Shape, owed
from modeling import METHODS, LoRALinear, use_plain_attention

D, F, BLOCKS, N, T = 8, 12, 2, 3, 7


def counted(method, **hyperparameters):
    """PyTorch's own count for the pass forward and back, without the head and its gradients."""
    pretrained = tiny("bert")
    use_plain_attention(pretrained)
    model = METHODS[method](pretrained, **hyperparameters).eval()
    for layer in model.modules():
        if isinstance(layer, LoRALinear):
            layer.forward = layer.textbook
    if method == "head":
        model.requires_grad_(False)
    ids = torch.randint(5, 20, (N, T))
    with FlopCounterMode(display=False) as forward:
        states = model.encode(ids, torch.ones_like(ids))
    if method == "head":
        return forward.get_total_flops()
    with FlopCounterMode(display=False) as backward:
        states.sum().backward()
    return forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize(
    ("method", "size", "hyperparameters"),
    [
        ("head", 0, {}),
        ("full", 0, {}),
        ("lora", 3, {"rank": 3}),
        ("adapter", 3, {"bottleneck": 3}),
    ],
)
def test_arithmetic_owed_is_what_pytorch_counts(method, size, hyperparameters):
    ours = owed(Shape(D, F, BLOCKS), np.full(N, T), method, size)
    # transformers' modules compute the last block's q and o for every token; the first is owed.
    passes = {"head": 1, "full": 3, "lora": 2, "adapter": 2}[method]
    spared = passes * N * (T - 1) * 2 * 2 * D * D
    spared += N * 2 * D * D  # and BertModel pools, which is the head's to do
    if method == "lora":  # of the last block's q and o
        spared += 3 * N * (T - 1) * 2 * (2 * 2 * D * size)
    if method == "adapter":  # after the last block's attention, before its norm
        spared += 3 * N * (T - 1) * 2 * 2 * D * size
    assert counted(method, **hyperparameters) == ours + spared
