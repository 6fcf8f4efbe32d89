r"""Adapters: a small bottleneck after each sublayer (Houlsby et al. 2019, arXiv:1902.00751).

Section 2.1 and figure 2. Each transformer block has two sublayers, attention and feed-forward;
an adapter follows each one's last projection, before the residual sum and the LayerNorm:

    x --> sublayer --> projection --> [ adapter ] --> + --> LayerNorm -->
     \_______________________________________________/

    adapter(h) = h + W_up f(W_down h + b_down) + b_up        h (..., d), W_down (m, d), W_up (d, m)

f is GELU, as in the authors' BERT experiments. The weights start close to zero, so that an
adapter starts close to the identity. Where a family's LayerNorm stands before the sublayer, as in
decoders, the adapter's place is the same. The adapters, the blocks' LayerNorms and the head are
trained: per block 2(2md + m + d) + 4d parameters, with 2d in place of 4d where norms have no bias.

Where we differ from the authors' code (google-research/adapter-bert). Our adapter is a part of the
projection, so the sublayer's dropout comes after the adapter; in their code it comes before. (By
default the encoder's dropout is off, and this makes no difference.) Their GELU is the tanh form,
they train the embeddings' LayerNorm too, and their weights start with a standard deviation of 1e-3.
Ours start with 1e-2, as the paper says. They keep BERT's pooler frozen, and train the classifier
after it; we train both, as every method here does.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from boundary import BadInput

from .base import PeftModel


class BottleneckAdapter(nn.Module):
    """h + W_up f(W_down h + b_down) + b_up, from width d to `bottleneck` m and back."""

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        for layer in (self.down, self.up):
            # Section 3.6: normal, standard deviation 0.01, truncated at two standard deviations.
            nn.init.trunc_normal_(layer.weight, std=1e-2, a=-2e-2, b=2e-2)
            nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor) -> Tensor:
        """(..., d) -> (..., d)"""
        return h + self.up(F.gelu(self.down(h)))


class AdapterModel(PeftModel):
    """Insert two adapters into a block; train them, these blocks' LayerNorms and the head."""

    def adapt(self, bottleneck: int = 64, blocks: int | None = None) -> None:
        """Follow both sublayers' projections with an adapter; unfreeze the blocks' norms.

        Only the last `blocks` blocks change; None: all do. Raises `BadInput` for a bottleneck below
        1, or more blocks than there are.
        """
        if bottleneck < 1:
            raise BadInput(f"bottleneck is {bottleneck}; expected 1 or more")
        for block in self.last_blocks(blocks):
            for path in self.architecture.sublayer_outputs:
                projection = block.get_submodule(path)
                adapter = BottleneckAdapter(projection.out_features, bottleneck)
                adapter.to(projection.weight)
                adapted = nn.Sequential(OrderedDict(projection=projection, adapter=adapter))
                block.set_submodule(path, adapted)
            for path in self.architecture.norms:
                block.get_submodule(path).requires_grad_(True)
