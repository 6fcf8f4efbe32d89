r"""(IA)3: keys, values and the feed-forward's inner activations are rescaled (Liu et al. 2022).

arXiv:2205.05638, section 3.3. Three vectors a block, and nothing else of the encoder, learn:

    x --> k, v --> * l_k, l_v --> attention -->      x --> up --> f --> * l_ff --> down -->

    h = l * (W0 x + b)        keys and values: x (..., d_in), h and l (..., d_out)
    h = W0 (l * x) + b        the projection "down": x and l (..., d_in), h (..., d_out)

f is the nonlinearity. l = 1, so training starts at the pretrained model. A block has 2 d + d_ff
trainable parameters, d_ff the width of its feed-forward layer; fewer where several queries share a
key and a value.

Where we differ: ModernBERT keeps q, k and v in one matrix, of which all outputs are scaled.
"""

from torch import Tensor, nn

from .base import PeftModel
from .merging import AdaptedLinear, wrap


class IA3Linear(AdaptedLinear):
    """A frozen linear layer whose outputs, or whose inputs, are multiplied by a learnt vector."""

    def __init__(self, linear: nn.Linear, of_inputs: bool):
        super().__init__(linear)
        self.of_inputs = of_inputs
        width = linear.in_features if of_inputs else linear.out_features
        self.ia3_l = nn.Parameter(linear.weight.new_ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)"""
        if self.of_inputs:
            return self.linear(self.ia3_l * x)
        h = self.linear(x)
        return (self.ia3_l * h).to(h.dtype)

    def merged_weight(self) -> Tensor:
        """W0 with its columns times l (of inputs), or its rows (of outputs)."""
        scale = self.ia3_l.cpu().double()
        return self.linear.weight.cpu().double() * (scale if self.of_inputs else scale[:, None])

    def merged_bias(self) -> Tensor | None:
        """b, which is scaled by l where the outputs are."""
        bias = self.linear.bias
        if bias is None or self.of_inputs:
            return bias
        return bias.cpu().double() * self.ia3_l.cpu().double()


class IA3Model(PeftModel):
    """Rescale keys, values and inner activations of the blocks; train the scales and the head."""

    def adapt(self, blocks: int | None = None) -> None:
        """Put an IA3Linear around k, v and down, in the last `blocks` blocks, None: in all."""
        k, v, down = (self.architecture.projections[name] for name in ("k", "v", "down"))
        wrap(self, blocks, dict.fromkeys((k, v)), lambda linear: IA3Linear(linear, of_inputs=False))
        wrap(self, blocks, [down], lambda linear: IA3Linear(linear, of_inputs=True))
