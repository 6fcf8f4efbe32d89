"""What the head reads of the hidden states.

    "first"     what the family's own classifier reads: the first token after the last block; of
                decoders the last token; ModernBERT's config may say the mean            (N, d)
    "mean"      the mean over the real tokens after the last block                       (N, d)
    "layers"    the means over the real tokens of the embeddings' output and after each of the L
                blocks, (N, L + 1, d), and of those a learned mixture:

        features = gamma sum_j softmax(w)_j LayerNorm(mean_j)                            (N, d)

The mixture is ELMo's (Peters et al. 2018, arXiv:1802.05365, section 3.2, equation 1), its
LayerNorm without weights. It starts as the plain average: w = 0, gamma = 1. The last of the L + 1
is what the encoder gives, after its final norm where it has one (ModernBERT, decoders).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POOLINGS = ("first", "mean", "layers")


def mean_of_tokens(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean over real tokens, (N, T, d) and mask (N, T) -> (N, d), in float32 or wider."""
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    real = attention_mask[:, None].to(hidden.dtype)  # (N, 1, T)
    with torch.autocast(hidden.device.type, enabled=False):
        return torch.bmm(real, hidden)[:, 0] / real.sum(2)  # one pass over the hidden states


class Mixture(nn.Module):
    """gamma sum_j softmax(w)_j LayerNorm(x_j), over `count` vectors."""

    def __init__(self, count: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(count))
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, count, d) -> (N, d)"""
        normed = F.layer_norm(x, x.shape[-1:])
        return self.gamma * (self.w.softmax(0) @ normed)


@contextmanager
def means_of_inputs(blocks: list[nn.Module], attention_mask: Tensor) -> Iterator[list[Tensor]]:
    """Within it, the mean over real tokens (N, d) of what enters each of `blocks` is listed."""
    means = []

    def add(block, inputs, options):
        hidden = inputs[0] if inputs else options["hidden_states"]
        means.append(mean_of_tokens(hidden, attention_mask))

    hooks = [block.register_forward_pre_hook(add, with_kwargs=True) for block in blocks]
    try:
        yield means
    finally:
        for hook in hooks:
            hook.remove()
