"""LoRA: low-rank updates of frozen weight matrices (Hu et al. 2021, arXiv:2106.09685).

Section 4.1. A chosen matrix W0 stays frozen, and learns an update of rank r beside it:

           +--> W0 (frozen) ----------------------+
    x -----|                                      + --> h
           +--> A (r, d_in) --> B (d_out, r) -----+
                                     * alpha / r

    h = W0 x + b + (alpha / r) B A x                      x (..., d_in), h (..., d_out)

Section 4.2 adapts the attention projections only; which matrices is a choice here (`targets`).
Where we differ: A is Kaiming-uniform as in the authors' code, where the text says Gaussian.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import PeftModel


class LoRALinear(nn.Module):
    """A frozen linear layer with a trainable update of rank `rank` beside it."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        weight = linear.weight  # (d_out, d_in)
        self.lora_A = nn.Parameter(weight.new_empty(rank, linear.in_features))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        # B = 0, so training starts at the pretrained model.
        self.lora_B = nn.Parameter(weight.new_zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)"""
        update = F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)
        return self.linear(x) + self.scaling * update

    @torch.no_grad()
    def delta(self) -> Tensor:
        """The learnt update of W0, (alpha / r) B A, (d_out, d_in), in float32 or better."""
        dtype = torch.promote_types(self.lora_A.dtype, torch.float32)
        return self.scaling * (self.lora_B.to(dtype) @ self.lora_A.to(dtype))


class LoRAModel(PeftModel):
    """Put a LoRALinear around the chosen matrices of each block; train A, B and the head."""

    def adapt(
        self,
        rank: int = 16,
        alpha: float = 32,
        dropout: float = 0.0,
        targets: tuple[str, ...] = ("q", "k", "v", "o"),
    ) -> None:
        """Wrap the projections named by `targets` (q, k, v, o; up, down) in every block.

        Raises `ValueError` for an unknown target, no target, or a rank below 1.
        """
        projections = self.architecture.projections
        if rank < 1:
            raise ValueError(f"rank is {rank}; expected 1 or more")
        if not targets or not set(targets) <= set(projections):
            raise ValueError(f"LoRA targets are {list(targets)}; choose from {list(projections)}")
        for block in self.blocks:
            for target in targets:
                linear = block.get_submodule(projections[target])
                adapted = LoRALinear(linear, rank, alpha, dropout)
                block.set_submodule(projections[target], adapted)
