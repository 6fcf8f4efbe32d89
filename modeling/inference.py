"""The forward pass over a batch and over a whole split: in training, evaluation and prediction.

    input_ids, attention_mask (N, T) --encode--> features (N, d) or (N, L + 1, d)  in `compute_type`
    features --classify--> logits (N, C)                                             in float32

The size of micro-batches changes results by rounding alone, and on a GPU by dropout's masks. So it
is chosen for speed.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

import hardware
from data_utils import Batch, Split

from .base import PeftModel

GPU_TEXTS, GPU_TOKENS = 32, 2**14  # most texts of full length, and most tokens, at once


def features_of(model: PeftModel, batch: Batch) -> Tensor:
    """(N, T) -> pooled features (N, d) or, of layers, (N, L + 1, d), in float32."""
    with hardware.autocast(batch.labels.device):
        return model.encode(*batch.tokens, batch.frozen).float()


def logits_of(model: PeftModel, batch: Batch) -> Tensor:
    """(N, T) -> logits (N, C)"""
    return model.classify(features_of(model, batch))


def predict(model: PeftModel, split: Split, most_tokens: int) -> Tensor:
    """The logits (n, C) of all texts, in their order, without dropout; on the CPU.

    The model is in eval mode afterwards.
    """
    shape = (model.pretrained.config.num_labels,)
    return _all(partial(logits_of, model.eval()), split, most_tokens, shape)


def features(model: PeftModel, split: Split, most_tokens: int) -> np.ndarray:
    """The pooled features of all texts, in their order: (n, d) or, of layers, (n, L + 1, d)."""
    width = model.pretrained.config.hidden_size
    shape = (len(model.blocks) + 1, width) if model.pooling == "layers" else (width,)
    return _all(partial(features_of, model.eval()), split, most_tokens, shape).numpy()


@torch.no_grad()
def _all(compute: Callable[[Batch], Tensor], split, most_tokens, shape) -> Tensor:
    """The result of `compute` for each text of a split, (n, *shape) on the CPU."""
    parts = split.micro_batches(np.arange(len(split)), most_tokens)
    longest_first = torch.empty(len(split), *shape, device=split.labels.device)
    for index, place in zip(parts, longest_first.split([*map(len, parts)]), strict=True):
        place.copy_(compute(split.batch(index)))  # on the device: nothing waits
    ordered = torch.empty(len(split), *shape)
    if parts:
        ordered[np.concatenate(parts)] = longest_first.cpu()
    return ordered


def tokens_at_once(max_tokens: int, device: torch.device, training: bool) -> int:
    """The number of tokens, padding included, to compute together for the highest speed.

    A GPU takes whole batches, or parts of a batch if texts have more than 512 tokens. A CPU is
    fastest where a block's attention scores, tokens x heads x T, stay in its caches; without
    gradients, less other memory is in use.
    """
    if device.type != "cpu":
        return min(GPU_TEXTS * max_tokens, GPU_TOKENS)
    most = 2**20 // max_tokens
    return most if training else max(most, 4096)
