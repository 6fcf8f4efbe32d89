r"""DoRA: a matrix's directions learn as in LoRA, their lengths by themselves (Liu et al. 2024).

arXiv:2402.09353, equation 5. Each output has a row of W0; the row has a direction and a length.

           +--> W0 (frozen) ------------+
    x -----|                            + --> rows of length 1 --> * m --> + b --> h
           +--> A --> B --> * alpha / r +

    h = m * (V x) / ||V|| + b      V = W0 + (alpha / r) B A,  ||V|| (d_out,) the lengths of its rows

x (..., d_in), h (..., d_out), A (r, d_in), B (d_out, r), m (d_out,). B = 0 and m = ||W0||, so
training starts at the pretrained model. As in section 4.3, ||V|| is a constant in the backward
pass. A matrix has r (d_in + d_out) + d_out trainable parameters.

Where we differ: the paper takes the lengths of V's columns, so that m is (1, d_in); its authors'
code, and we, take the lengths of the rows, one for each output.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundary import BadInput

from .base import PeftModel
from .merging import AdaptedLinear, wrap


class DoRALinear(AdaptedLinear):
    """A frozen linear layer; an update of rank `rank` turns its rows, whose lengths are learnt."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__(linear)
        weight = linear.weight  # (d_out, d_in)
        self.scaling = alpha / rank
        self.dora_A = nn.Parameter(weight.new_empty(rank, linear.in_features))
        nn.init.kaiming_uniform_(self.dora_A, a=math.sqrt(5))
        self.dora_B = nn.Parameter(weight.new_zeros(linear.out_features, rank))
        self.magnitude = nn.Parameter(weight.detach().norm(dim=1))  # m

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)"""
        W0, bias = self.linear.weight, self.linear.bias
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            lengths = torch.addmm(W0, self.dora_B, self.dora_A, alpha=self.scaling).norm(dim=1)
        Vx = F.linear(x, W0) + self.scaling * F.linear(F.linear(x, self.dora_A), self.dora_B)
        h = self.magnitude / lengths * Vx
        return (h if bias is None else h + bias).to(Vx.dtype)

    def merged_weight(self) -> Tensor:
        """m V / ||V||"""
        A, B, m = (p.cpu().double() for p in (self.dora_A, self.dora_B, self.magnitude))
        V = self.linear.weight.cpu().double() + self.scaling * B @ A
        return (m / V.norm(dim=1))[:, None] * V


class DoRAModel(PeftModel):
    """Put a DoRALinear around the chosen matrices of the blocks; train A, B, m and the head."""

    def adapt(
        self,
        rank: int = 16,
        alpha: float = 32,
        targets: tuple[str, ...] = ("q", "k", "v", "o"),
        blocks: int | None = None,
    ) -> None:
        """Wrap the projections named by `targets` (q, k, v, o; up, down, gate).

        Only the last `blocks` blocks change; None: all do. Raises `BadInput` as LoRA does.
        """
        if not 0 < alpha < math.inf:
            raise BadInput(f"alpha is {alpha}; expected a finite number above 0")
        paths = self.architecture.matrices(targets, rank)
        wrap(self, blocks, paths, lambda linear: DoRALinear(linear, rank, alpha))
