"""Attention as three plain operations, fast on CPUs while a layer's scores fit their cache.

    scores = q k^T / sqrt(d_h) + mask        (N, H, T, T)
    output = softmax(scores) v               (N, H, T, d_h)

PyTorch's fused attention exists to never write the scores to memory. On a CPU its pass back costs
two to six times these operations', and a few reviews at a time keep the scores small anyway.
Registered with transformers by name, so that it serves every family that takes its attention
from there.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

NAME = "plain"


def plain_attention(
    module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask,
    scaling=None,
    dropout=0.0,
    **_,
) -> tuple[Tensor, None]:
    """query (N, H, T, d_h), key and value (N, H or fewer, T, d_h) -> (N, T, H, d_h).

    `attention_mask` (N, 1, T, T) is True where a token may look, or None where it always may.
    With `module.first_query_only`, the first token's output stands in all T places.
    """
    N, H, T, width = query.shape
    queries = 1 if getattr(module, "first_query_only", False) else T
    query = query[:, :, :queries]
    groups = H // key.shape[1]  # decoders share keys and values among heads
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    # The scale goes into the queries: they are smaller than the scores.
    query = query * (width**-0.5 if scaling is None else scaling)
    query, key, value = (x.reshape(N * H, -1, width) for x in (query, key, value))
    scores = torch.bmm(query, key.mT)  # (N H, queries, T)
    if attention_mask is not None:
        attention_mask = attention_mask[:, :, :queries]
        lowest = torch.finfo(scores.dtype).min
        bias = torch.zeros_like(attention_mask, dtype=scores.dtype)
        bias.masked_fill_(~attention_mask, lowest)
        with torch.no_grad():  # in place, and a sum's gradient passes through: nothing to record
            scores.view(N, H, queries, -1).add_(bias)
    shares = F.dropout(scores.softmax(-1), dropout)
    output = torch.bmm(shares, value).view(N, H, queries, width)
    return output.transpose(1, 2).expand(N, T, H, width), None


def _mask(*sizes, **options):
    """transformers' boolean mask (N, 1, T, T); None only where every token sees every other."""
    return sdpa_mask(*sizes, **options | {"allow_is_causal_skip": False})


def use_plain_attention(pretrained: PreTrainedModel) -> None:
    """Switch a model to `plain_attention`, where its family lets its attention be chosen."""
    if pretrained._supports_attention_backend:
        pretrained.set_attn_implementation(NAME)


AttentionInterface.register(NAME, plain_attention)
AttentionMaskInterface.register(NAME, _mask)
