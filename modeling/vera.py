r"""VeRA: LoRA with random matrices that all layers share, and two learnt vectors each.

Kopiczko et al. 2024, arXiv:2310.11454, section 3.1.

           +--> W0 (frozen) ---------------------------------------+
    x -----|                                                       + --> h
           +--> A (frozen) --> * d --> B (frozen) --> * b ---------+

    h = W0 x + bias + b * (B (d * (A x)))

x (..., d_in), h (..., d_out), A (r, d_in), d (r,), B (d_out, r), b (d_out,). b = 0, so training
starts at the pretrained model; d = 0.1, as in section 4. A matrix has d_out + r trainable
parameters. A and B are Kaiming-uniform and drawn from a seed of their own, so a checkpoint has no
need to hold them. Where we differ: the paper's classifiers adapt q and v, and the head has a
learning rate of its own. Matrices of other shapes take A's first columns and B's first rows, as in
the peft library.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import PeftModel
from .merging import AdaptedLinear, wrap


class SharedProjections(nn.Module):
    """A (r, largest d_in) and B (largest d_out, r), frozen: one pair for all layers of a model."""

    def __init__(self, linears: list[nn.Linear], rank: int):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        d_in = max((linear.in_features for linear in linears), default=1)
        d_out = max((linear.out_features for linear in linears), default=1)
        for name, shape in (("A", (rank, d_in)), ("B", (d_out, rank))):
            matrix = torch.empty(shape, device="cpu", dtype=torch.float32)
            nn.init.kaiming_uniform_(matrix, generator=generator)
            self.register_parameter(name, nn.Parameter(matrix, requires_grad=False))


class VeRALinear(AdaptedLinear):
    """A frozen linear layer with an update by shared random matrices beside it."""

    def __init__(self, linear: nn.Linear, shared: SharedProjections):
        super().__init__(linear)
        self.shared = shared
        self.vera_d = nn.Parameter(linear.weight.new_full((len(shared.A),), 0.1))
        self.vera_b = nn.Parameter(linear.weight.new_zeros(linear.out_features))

    def projections(self) -> tuple[Tensor, Tensor]:
        """This layer's part of A (r, d_in) and of B (d_out, r)."""
        return self.shared.A[:, : self.linear.in_features], self.shared.B[: len(self.vera_b)]

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)"""
        A, B = self.projections()
        h = self.linear(x)
        return (h + self.vera_b * F.linear(self.vera_d * F.linear(x, A), B)).to(h.dtype)

    def merged_weight(self) -> Tensor:
        """W0 + diag(b) B diag(d) A"""
        A, B, d, b = (p.cpu().double() for p in (*self.projections(), self.vera_d, self.vera_b))
        return self.linear.weight.cpu().double() + b[:, None] * B @ (d[:, None] * A)


class VeRAModel(PeftModel):
    """Put a VeRALinear around the chosen matrices of the blocks; train b, d and the head."""

    def adapt(
        self,
        rank: int = 256,
        targets: tuple[str, ...] = ("q", "k", "v", "o"),
        blocks: int | None = None,
    ) -> None:
        """Wrap the projections named by `targets` (q, k, v, o; up, down, gate).

        Only the last `blocks` blocks change; None: all do. Raises `BadInput` as LoRA does.
        """
        paths = self.architecture.matrices(targets, rank)
        linears = [b.get_submodule(path) for b in self.last_blocks(blocks) for path in paths]
        shared = SharedProjections(linears, rank).to(self.pretrained.device, self.pretrained.dtype)
        wrap(self, blocks, paths, lambda linear: VeRALinear(linear, shared))
