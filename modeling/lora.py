"""LoRA: low-rank updates of frozen weight matrices (Hu et al. 2021, arXiv:2106.09685).

Section 4.1. A chosen matrix W0 stays frozen, and learns an update of rank r beside it:

           +--> W0 (frozen) ----------------------+
    x -----|                                      + --> h
           +--> A (r, d_in) --> B (d_out, r) -----+
                                     * alpha / r

    h = W0 x + b + (alpha / r) B A x                      x (..., d_in), h (..., d_out)

Section 4.2 adapts the attention projections only; here `targets` chooses the matrices.
Where we differ: A starts Kaiming-uniform, as in the authors' code; the paper says Gaussian.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from boundary import BadInput

from .base import PeftModel
from .merging import AdaptedLinear, wrap


class LoRALinear(AdaptedLinear):
    """A frozen linear layer with a trainable update of rank `rank` beside it."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout=0.0, rslora=False):
        super().__init__(linear)  # self.linear, frozen: see merging.py
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / (math.sqrt(rank) if rslora else rank)
        weight = linear.weight  # (d_out, d_in)
        self.lora_A = nn.Parameter(weight.new_empty(rank, linear.in_features))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        # B = 0, so training starts at the pretrained model.
        self.lora_B = nn.Parameter(weight.new_zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """h = W0 x + b + (alpha / r) B A x, with dropout before A; (..., d_in) -> (..., d_out)"""
        update = F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)
        return self.linear(x) + self.scaling * update

    def merged_weight(self) -> Tensor:
        """W0 + (alpha / r) B A, (d_out, d_in), in float64 on the CPU."""
        A, B = self.lora_A.cpu().double(), self.lora_B.cpu().double()
        return self.linear.weight.cpu().double() + self.scaling * (B @ A)


class LoRAModel(PeftModel):
    """Put a LoRALinear around the chosen matrices of the blocks; train A, B and the head."""

    def adapt(
        self,
        rank: int = 16,
        alpha: float = 32,
        dropout: float = 0.0,
        targets: tuple[str, ...] = ("q", "k", "v", "o"),
        rslora: bool = False,
        blocks: int | None = None,
    ) -> None:
        """Wrap the projections named by `targets` (q, k, v, o; up, down, gate).

        Only the last `blocks` blocks change; None: all do. `rslora` scales by alpha / sqrt(r)
        (arXiv:2312.03732). Raises `BadInput` for an unknown target, no target, a part of a fused
        matrix, a rank below 1, an `alpha` that is not a finite number above 0, a `dropout` of 1 or
        more, or more blocks than there are.
        """
        if not 0 < alpha < math.inf:
            raise BadInput(f"alpha is {alpha}; expected a finite number above 0")
        if not 0 <= dropout < 1:
            raise BadInput(f"dropout is {dropout}; expected 0 or more, and less than 1")
        paths = self.architecture.matrices(targets, rank)
        wrap(self, blocks, paths, lambda linear: LoRALinear(linear, rank, alpha, dropout, rslora))
