"""A model's forward pass over a whole split, in micro-batches and without gradients."""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import hardware
from data_utils import Batch, Split, micro_batches
from modeling import PeftModel

from . import processes
from .settings import Settings, tokens_at_once


def features_of(model: PeftModel, batch: Batch) -> Tensor:
    """(N, T) -> (N, d) or, of layers, (N, L + 1, d), from what the frozen blocks give."""
    with hardware.autocast(batch.labels.device):
        return model.encode(*batch.tokens, batch.frozen).float()


def features(model: PeftModel, split: Split, settings: Settings) -> np.ndarray:
    """What the head reads of all reviews, in their order: (n, d), of layers (n, (L + 1) d)."""
    vectors = len(model.blocks) + 1 if model.pooling == "layers" else 1
    found = torch.zeros(len(split), vectors * model.pretrained.config.hidden_size)
    return compute_all(found, partial(features_of, model.eval()), split, settings).numpy()


@torch.no_grad()
def compute_all(into: Tensor, compute, split: Split, settings: Settings) -> Tensor:
    """Fill the rows of `into` with what `compute` makes of each batch of a split; on the CPU."""
    limit = tokens_at_once(settings, split.labels.device)
    mine = processes.share(np.arange(len(split)), split.lengths)
    parts = micro_batches(split.lengths, mine, limit)
    computed = [compute(split.batch(rows)) for rows in parts]
    for rows, part in zip(parts, computed, strict=True):
        into[rows] = part.flatten(1).cpu()
    processes.all_reduce(into)
    return into


def score(logits: Tensor, split: Split) -> tuple[float, float]:
    """Mean loss per review, and accuracy."""
    labels = split.labels.cpu()
    correct = (logits.argmax(1) == labels).sum().item()
    return cross_entropy(logits, labels).item(), correct / len(labels)
