"""Pooling: from the hidden states of all tokens to the features of a text.

    "first"     the family's own pooling: the first token after the last block; for decoders the
                last token that is no padding; ModernBERT's config may say the mean      (N, d)
    "mean"      the mean over the real tokens after the last block                       (N, d)
    "layers"    the means over the real tokens after the embeddings and after each of the L
                blocks, x_0 ... x_L                                              (N, L + 1, d)

"first" and "mean" go into the family's own head, "layers" into one linear layer, as in a probe:

    logits = W [LayerNorm(x_0); ...; LayerNorm(x_L)] / (L + 1) + b      W (C, (L + 1) d), from 0

The LayerNorm has no weights: it gives all layers one scale. AdamW moves each number of W by about
the learning rate. Because of the division by L + 1, a step moves the logits as far as it would with
one layer, so a rate that suits the blocks suits the head too. Lower layers hold other things than
the last, as ELMo's authors found (Peters et al. 2018, arXiv:1802.05365). x_L is the mean of the
encoder's output, after its final norm where it has one (ModernBERT, decoders).
"""

from collections.abc import Callable, Iterable, Iterator
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


class LayersHead(nn.Module):
    """The logits: the mean of W_l LayerNorm(x_l) over `count` = L + 1 layers, plus b."""

    def __init__(self, count: int, width: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(count * width, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, count, d) -> (N, C)"""
        return self.linear(F.layer_norm(x, x.shape[-1:]).flatten(1) / x.shape[1])


@contextmanager
def calling_with_inputs(blocks: Iterable[nn.Module], act: Callable) -> Iterator[None]:
    """Within it, act(block, hidden) is called with each block's input hidden states (N, T, d)."""

    def call(block, inputs, options):
        act(block, inputs[0] if inputs else options["hidden_states"])

    hooks = [block.register_forward_pre_hook(call, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def means_of_inputs(blocks: list[nn.Module], attention_mask: Tensor) -> Iterator[list[Tensor]]:
    """Within it, a list collects the mean over real tokens (N, d) of each block's input."""
    means = []
    with calling_with_inputs(
        blocks, lambda _, hidden: means.append(mean_of_tokens(hidden, attention_mask))
    ):
        yield means
