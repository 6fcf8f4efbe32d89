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
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundary import BadInput

from .base import PeftModel
from .fast import FoldedLoRA


class LoRALinear(nn.Module):
    """A frozen linear layer with a trainable update of rank `rank` beside it."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout=0.0, rslora=False):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.folded = False  # see fast.py
        self.scaling = alpha / (math.sqrt(rank) if rslora else rank)
        weight = linear.weight  # (d_out, d_in)
        self.lora_A = nn.Parameter(weight.new_empty(rank, linear.in_features))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        # B = 0, so training starts at the pretrained model.
        self.lora_B = nn.Parameter(weight.new_zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """h = W0 x + b + (alpha / r) B A x, with dropout before A; (..., d_in) -> (..., d_out)"""
        if self.folded and not (self.training and self.dropout.p):
            return FoldedLoRA.apply(x, self.lora_A, self.lora_B, self)
        update = F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)
        return self.linear(x) + self.scaling * update

    @torch.no_grad()
    def delta(self) -> Tensor:
        """The learnt update of W0, (alpha / r) B A, (d_out, d_in), in float64 on the CPU."""
        return self.scaling * (self.lora_B.cpu().double() @ self.lora_A.cpu().double())

    @torch.no_grad()
    def core(self) -> Tensor:
        """An (r, r) matrix with the singular values of `delta`, which has no others but zeros.

        B = Q R and A^T = P S with orthonormal columns in Q and P, so B A = Q (R S^T) P^T.
        """
        R = torch.linalg.qr(self.lora_B.cpu().double(), mode="r").R
        S = torch.linalg.qr(self.lora_A.cpu().double().T, mode="r").R
        return self.scaling * (R @ S.T)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer with W0 + (alpha / r) B A, rounded once to the type of W0."""
        weight = self.linear.weight
        weight.copy_(weight.cpu().double() + self.delta())
        return self.linear


class MergeReport(NamedTuple):
    """What merging changed on a batch: by rounding alone, since the two forms are equal."""

    largest_logit_change: float
    flipped_predictions: int


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

        In the last `blocks` blocks, None: in all. `rslora` scales by alpha / sqrt(r)
        (arXiv:2312.03732). Raises `BadInput` for an unknown target, no target, a part of a fused
        matrix, a rank below 1, or more blocks than there are.
        """
        projections = self.architecture.projections
        if rank < 1:
            raise BadInput(f"rank is {rank}; expected 1 or more")
        if not targets or not set(targets) <= set(projections):
            raise BadInput(f"LoRA targets are {list(targets)}; choose from {list(projections)}")
        paths = dict.fromkeys(projections[target] for target in targets)
        fused = [name for name, path in projections.items() if path in paths]
        if missing := set(fused) - set(targets):
            raise BadInput(
                f"LoRA targets are {list(targets)}, but this family keeps {sorted(missing)} in "
                "the same matrix: choose all of it or none"
            )
        for block in self.last_blocks(blocks):
            for path in paths:
                linear = block.get_submodule(path)
                block.set_submodule(path, LoRALinear(linear, rank, alpha, dropout, rslora))

    def lora_layers(self) -> dict[str, LoRALinear]:
        """The adapted layers by their path in the transformers model."""
        layers = self.pretrained.named_modules()
        return {path: layer for path, layer in layers if isinstance(layer, LoRALinear)}

    def fold(self) -> None:
        """Put plain linear layers, updates included, in the place of the adapted ones."""
        for path, layer in self.lora_layers().items():
            self.pretrained.set_submodule(path, layer.merged())

    @torch.no_grad()
    def merge(self, input_ids: Tensor, attention_mask: Tensor) -> MergeReport:
        """Fold every update into its matrix: the base model's own layers and speed again.

        Reports what that changes on a batch (N, T). Merging twice changes nothing more; to undo
        it, load the checkpoint again.
        """
        self.eval()
        before = self(input_ids, attention_mask)
        self.fold()
        after = self(input_ids, attention_mask)
        flipped = (before.argmax(1) != after.argmax(1)).sum().item()
        return MergeReport((before - after).abs().max().item(), flipped)
