"""PiSSA: LoRA that starts at the principal part of W0 (Meng et al. 2024, arXiv:2404.02948).

Section 3. W0 = U S V^T, its singular values S the largest first. A and B get the first r terms,
and what stays frozen is the rest:

           +--> W0 - (alpha / r) B0 A0 (frozen) --+
    x -----|                                      + --> h
           +--> A (r, d_in) --> B (d_out, r) -----+
                                     * alpha / r

    A0 = (S_r r / alpha)^(1/2) V_r^T      B0 = U_r (S_r r / alpha)^(1/2)

A0 and B0 are where A and B start, so training starts at the pretrained model here too. What it adds
to W0 is (alpha / r) (B A - B0 A0). A matrix has as many trainable parameters as in LoRA.

Where we differ: the paper writes no alpha / r; here it is LoRA's, and A0 and B0 make up for it.
AdamW's decay draws A and B to 0, not to A0 and B0.
"""

import torch
from torch import Tensor, nn

from boundary import BadInput

from .lora import LoRALinear


class PiSSALinear(LoRALinear):
    """A LoRALinear whose A and B start at the largest singular values of W0."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout=0.0, rslora=False):
        if rank > (most := min(linear.weight.shape)):
            size = f"a matrix of {linear.out_features} x {linear.in_features}"
            raise BadInput(f"rank is {rank}; PiSSA has {most} at most in {size}")
        super().__init__(linear, rank, alpha, dropout, rslora)
        with torch.no_grad():
            U, S, Vt = torch.linalg.svd(linear.weight, full_matrices=False)
            root = (S[:rank] / self.scaling).sqrt()
            self.lora_A.copy_(root[:, None] * Vt[:rank])
            self.lora_B.copy_(U[:, :rank] * root)
            linear.weight -= self.scaling * self.lora_B @ self.lora_A
        self.register_buffer("A0", self.lora_A.detach().clone(), persistent=False)
        self.register_buffer("B0", self.lora_B.detach().clone(), persistent=False)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Those of twice the rank: B A - B0 A0 = [B, -B0] [A; A0]"""
        return torch.cat([self.lora_B, -self.B0], 1), torch.cat([self.lora_A, self.A0])
