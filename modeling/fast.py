"""Attention that suits the device; results as from transformers' own attention, up to rounding.

On a CPU, attention as three operations:

    scores = q k^T / sqrt(d_h) + mask        (N, H, T, T)     H heads of width d_h
    output = softmax(scores) v               (N, H, T, d_h)

PyTorch's fused attention saves storing the scores. On a CPU its backward pass costs two to six
times as much as these operations', and micro-batches keep the scores small anyway. Our attention is
registered with transformers by name, so that it serves every family that takes its attention from
there; MPNet and DeBERTa, which add relative positions to the scores, keep their own.
On a GPU, PyTorch's fused attention is used, always with a mask. transformers leaves out a mask that
hides nothing; to know that, it waits for the device at every forward pass.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PLAIN, MASKED = "plain", "sdpa_with_mask"  # their names in transformers


def plain_attention(module, query, key, value, attention_mask, **options) -> tuple[Tensor, None]:
    """query (N, H, T, d_h), key and value (N, H or fewer, T, d_h) -> (N, T, H, d_h).

    The signature is transformers'. `attention_mask` (N, 1, T, T) is True where a query may attend
    to a key, None where it always may.
    """
    N, H, T, width = query.shape
    groups = H // key.shape[1]  # decoders share keys and values among heads
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    # The scale goes into the queries: they are smaller than the scores.
    scaling = options.get("scaling")
    query = query * (width**-0.5 if scaling is None else scaling)
    query, key, value = (x.reshape(N * H, -1, width) for x in (query, key, value))
    scores = torch.bmm(query, key.mT).view(N, H, T, T)
    if attention_mask is not None:
        masked = ~attention_mask
        added = torch.zeros_like(masked, dtype=scores.dtype)
        added.masked_fill_(masked, torch.finfo(scores.dtype).min)
        with torch.no_grad():  # in place, and a sum's gradient passes through: nothing to record
            scores.add_(added)
    shares = F.dropout(scores.softmax(-1), options.get("dropout", 0.0)).view(N * H, T, T)
    output = torch.bmm(shares, value).view(N, H, T, width)
    return output.transpose(1, 2), None


def _mask(*sizes, **options):
    """transformers' boolean mask (N, 1, T, T); None only where every token sees every other."""
    return sdpa_mask(*sizes, **options | {"allow_is_causal_skip": False})


def _every_mask(*sizes, **options):
    """transformers' boolean mask (N, 1, T, T), whatever its values."""
    return _mask(*sizes, **options | {"allow_is_bidirectional_skip": False})


def use_fast_attention(pretrained: PreTrainedModel, device: torch.device) -> None:
    """Choose the attention that suits a device, where the model's family allows a choice."""
    if pretrained._supports_attention_backend:
        pretrained.set_attn_implementation(PLAIN if device.type == "cpu" else MASKED)


AttentionInterface.register(PLAIN, plain_attention)
AttentionMaskInterface.register(PLAIN, _mask)
AttentionInterface.register(MASKED, sdpa_attention_forward)
AttentionMaskInterface.register(MASKED, _every_mask)
