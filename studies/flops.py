"""The floating-point operations (FLOPs) that a step requires, and the rate that a device reaches.

A matrix of d_out x d_in requires, for each token, 2 d_out d_in FLOPs forward, as many for the
gradient of its input, and as many for its own gradient. So with w = 4 d^2 + 2 d f weights a block:

    forward      2 w for each token and block, and 4 T d for attention's two products
    to inputs    as many as forward, but twice as many for attention; down to the lowest trained
                 weight
    to weights   as many as forward, for trained weights alone

Where the last blocks alone learn, the hidden states that enter them are stored, and the blocks
before them require nothing. Padding requires nothing either. Norms, activations, softmax, pooling
and the optimizer are left out: they are no products of large matrices.

    model FLOPs utilisation (MFU) = required FLOPs / (seconds x the measured rate of the device)
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.benchmark import Timer

import hardware


class Shape(NamedTuple):
    """The sizes of an encoder that pools all tokens."""

    width: int  # d
    feed_forward: int  # f
    blocks: int  # that run
    stored: bool = False  # whether a file has the hidden states that enter the first of them


def required(shape: Shape, lengths: np.ndarray, method: str, size: int = 0) -> float:
    """FLOPs required by one pass over texts of these lengths.

    `size` is LoRA's rank (on q, k, v, o) or the adapters' bottleneck. "head" requires the forward
    pass alone.
    """
    d, f, blocks, stored = shape
    T = lengths.astype(float)
    square, added = 2 * d * d, 2 * 2 * d * size  # FLOPs a token: one of q, k, v, o; A and B of one
    block, places = 4 * square + 2 * 2 * d * f, {"lora": 4, "adapter": 2}.get(method, 0)
    attention, learnt = 4 * T * T * d, T * places * added  # of one block
    forward = blocks * (T * block + attention + learnt)
    if method == "head":
        return forward.sum()
    backward = forward + blocks * attention  # its two products have two gradients each
    if method == "adapter":  # nothing learns below the first block's first adapter
        backward -= T * (4 * square + added / 2) + 2 * attention
    elif method == "lora" or stored:  # nothing below the first q, k, v learns; else embeddings do
        backward -= 3 * T * (square + (added / 2 if method == "lora" else 0))
    to_weights = blocks * (T * block if method == "full" else learnt)
    return (forward + backward + to_weights).sum()


def matrix_rate(device: torch.device, rows: int | None = None) -> float:
    """FLOPs a second of this device's matrix products, in its compute type, measured."""
    rows = rows or (2**17 if device.type == "cuda" else 2**12)  # far longer than a product's start
    dtype = hardware.compute_type(device)
    a = torch.randn(rows, 768, device=device, dtype=dtype)
    b = torch.randn(768, 768, device=device, dtype=dtype)
    product = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
    # The fastest: the first warms up, and others may use the machine too.
    seconds = min(product.timeit(3).mean for _ in range(10))
    return 2 * a.numel() * b.shape[1] / seconds
