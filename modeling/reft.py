r"""LoReFT: the hidden states of chosen tokens are edited in a small subspace (Wu et al. 2024).

arXiv:2404.03592, section 3.2, equation 2. No weight changes; after a block, on chosen tokens:

    block --> h ----------------------------------------> + --> next block
               \--> R^T (W h + b - R h), in r directions --/

    LoReFT(h) = h + R^T (W h + b - R h)        h (..., d); R, W (r, d); b (r,); R R^T = I

In the r directions that are the rows of R, the hidden state gets the value W h + b, and keeps its
own in all others. The chosen tokens are all, as the head here mostly reads their mean; or the first
`first` and the last `last` real tokens of each text, wherever its padding is; special tokens such
as [CLS] count. They share one edit a block (section 4.1, tied; the paper's classifiers, untied,
edit first tokens and read the first). A block has 2 r d + r trainable parameters.

R is the Gram-Schmidt orthonormalisation of a free matrix; the authors' code keeps R orthonormal by
a product of Householder reflections. Where we differ: W starts as R and b as 0, so training
starts at the pretrained model; their default W is random: noise overwrites r directions.
AdamW's decay draws W to 0, not to R.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundary import BadInput

from .base import PeftModel


class LoReFT(nn.Module):
    """The edit of a block's output, in `rank` directions."""

    def __init__(self, like: Tensor, width: int, rank: int):
        super().__init__()
        self.free = nn.Parameter(nn.init.orthogonal_(like.new_empty(width, rank)))
        self.W = nn.Parameter(self.R().detach().clone())
        self.b = nn.Parameter(like.new_zeros(rank))
        self.chosen = None  # (N, T), for the batch that runs

    def R(self) -> Tensor:
        """(r, d), with orthonormal rows."""
        Q, U = torch.linalg.qr(self.free)
        return (Q * U.diagonal().sign()).T  # the signs make it unique, so it moves smoothly

    def forward(self, h: Tensor) -> Tensor:
        """h (N, T, d), edited where `chosen` (N, T) is True."""
        R = self.R()
        edit = F.linear(F.linear(h, self.W - R, self.b), R.T)  # in bf16 W h - R h would be rounded
        return h + (self.chosen[..., None] * edit).to(h.dtype)


def chosen_tokens(attention_mask: Tensor, first: int | None, last: int) -> Tensor:
    """(N, T): True for the first (None: all) and the last real tokens of each text."""
    real = attention_mask.bool()
    if first is None:
        return real
    number = real.cumsum(1)  # the first real token is number 1, the last is `number[:, -1]`
    return real & ((number <= first) | (number > number[:, -1:] - last))


class ReFTModel(PeftModel):
    """Edit the hidden states after the blocks; train R, W, b and the head."""

    def adapt(
        self, rank: int = 4, first: int | None = None, last: int = 0, blocks: int | None = None
    ) -> None:
        """Follow the last `blocks` blocks, None: all, with an edit of the chosen tokens.

        They are the first `first` (None: all) and the last `last` tokens of each text. Raises
        `BadInput` for a rank below 1 or above the width, no tokens, or more blocks than there are.
        """
        width = self.pretrained.config.hidden_size
        if not 1 <= rank <= width:
            raise BadInput(f"rank is {rank}; expected 1 to {width}, the width of the model")
        if first is not None and (min(first, last) < 0 or first + last == 0):
            raise BadInput(f"first and last are {first} and {last}; expected one token or more")

        def choose(encoder, inputs, options):
            chosen = chosen_tokens(options["attention_mask"], first, last)
            for module in encoder.modules():  # not self: a copy would share it, and stay in memory
                if isinstance(module, LoReFT):
                    module.chosen = chosen

        def edit(block, inputs, output):
            if isinstance(output, tuple):
                return block.reft(output[0]), *output[1:]
            return block.reft(output)

        self.pretrained.base_model.register_forward_pre_hook(choose, with_kwargs=True)
        for block in self.last_blocks(blocks):
            block.reft = LoReFT(next(block.parameters()), width, rank)
            block.register_forward_hook(edit)
