"""The floating-point operations (FLOPs) that a step requires, and the rate that a device reaches.

A matrix of d_out x d_in requires, for each token, 2 d_out d_in FLOPs forward, as many for the
gradient of its input, and as many for its own gradient. So with w = 4 d^2 + 2 d f weights a block:

    forward      2 w a token and block, and 4 T d for attention's two products
    to inputs    as much again, attention twice, down to the lowest trained weight
    to weights   as much again as the forward, for the weights that are trained, and no others

The last block requires keys and values for every token, and all else for the first token alone,
where the head reads only that. Where the last blocks alone learn, the hidden states that enter them
are stored, and the blocks before them require nothing. Nor does padding. Norms, activations,
softmax and the optimizer are left out: they are not matrix products.

    model FLOPs utilisation (MFU) = required FLOPs / (seconds x the measured rate of the device)
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.benchmark import Timer

import hardware


class Shape(NamedTuple):
    """The sizes of an encoder whose head reads the first token."""

    width: int  # d
    feed_forward: int  # f
    blocks: int  # that run
    stored: bool = False  # whether a file has the hidden states that enter the first of them


def required(shape: Shape, lengths: np.ndarray, method: str, size: int = 0, forward_only=False):
    """FLOPs required by one pass over texts of these lengths.

    `size` is LoRA's rank (on q, k, v, o) or the adapters' bottleneck. "head" requires the forward
    pass alone.
    """
    d, f, blocks, stored = shape
    T = lengths.astype(float)
    read = np.ones_like(T)  # tokens that the last block computes past its keys and values
    queries = T if blocks > 1 else read  # of the first block
    square, feed_forward = 2 * d * d, 2 * 2 * d * f  # FLOPs a token: one of q, k, v, o; both

    def whole_block(tokens):
        return tokens * (4 * square + feed_forward) + 4 * T * tokens * d

    forward = (blocks - 1) * whole_block(T) + 2 * T * square
    forward += read * (2 * square + feed_forward) + 4 * T * read * d
    added = 2 * 2 * d * size  # FLOPs a token: A and B of one matrix, or one adapter's two
    places = {"lora": (4 * T, 2 * T + 2 * read), "adapter": (2 * T, 2 * read)}  # tokens: all, last
    each, last = places.get(method, (0, 0))
    own = added * ((blocks - 1) * each + last)
    forward += own
    if forward_only or method == "head":
        return forward.sum()
    attention = 4 * d * ((blocks - 1) * T * T + T)
    backward = forward + attention  # its two products have two gradients each
    to_first_block = (2 * T + queries) * (square + added / 2)  # from its q, k, v
    if method == "full":
        backward -= to_first_block if stored else 0  # else the embeddings learn
        return (forward + backward + forward - attention).sum()
    if method == "lora":
        backward -= to_first_block  # nothing below the first block learns
    elif method == "adapter":
        # nor below the first one's first adapter
        backward -= 2 * T * square + queries * (2 * square + added / 2 + 2 * 4 * T * d)
    return (forward + backward + own).sum()


def matrix_rate(device: torch.device) -> float:
    """FLOPs a second of this device's matrix products, in its compute type, measured."""
    rows = 2**17 if device.type == "cuda" else 2**12  # long beside the start of a product
    dtype = hardware.compute_type(device)
    a = torch.randn(rows, 768, device=device, dtype=dtype)
    b = torch.randn(768, 768, device=device, dtype=dtype)
    product = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
    # The fastest: the first warms up, and others may use the machine too.
    seconds = min(product.timeit(3).mean for _ in range(10))
    return 2 * a.numel() * b.shape[1] / seconds
