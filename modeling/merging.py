"""Linear layers that a method has adapted, and how they become plain ones again.

    x --> AdaptedLinear: W0 (frozen), and trained tensors --> h       h = W x + b, for some W and b

`wrap` puts such layers into a model. `merge` puts plain linear layers with the learnt W and b in
their place, so that the model has the base model's own layers and speed.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .base import PeftModel


class AdaptedLinear(nn.Module):
    """A frozen linear layer, which a subclass turns into another linear layer."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.linear = linear.requires_grad_(False)

    def merged_weight(self) -> Tensor:
        """W (d_out, d_in) of the plain layer with the same outputs, in float64 on the CPU."""
        raise NotImplementedError

    def merged_bias(self) -> Tensor | None:
        """b (d_out,) of that plain layer; None where it has no bias."""
        return self.linear.bias

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain layer, its numbers rounded once to the type of W0.

        It is the frozen layer, overwritten: do not use the adapted layer afterwards.
        """
        weight, bias = self.merged_weight(), self.merged_bias()
        self.linear.weight.copy_(weight)
        if bias is not None:
            self.linear.bias.copy_(bias)
        return self.linear


def wrap(
    model: PeftModel,
    blocks: int | None,
    paths: Iterable[str],
    adapted: Callable[[nn.Linear], AdaptedLinear],
) -> None:
    """Put `adapted(linear)` in the place of each linear layer at `paths` in the last `blocks`."""
    for block in model.last_blocks(blocks):
        for path in paths:
            block.set_submodule(path, adapted(block.get_submodule(path)))


def adapted_layers(model: PeftModel) -> dict[str, AdaptedLinear]:
    """The adapted layers by their path in the transformers model."""
    layers = model.pretrained.named_modules()
    return {path: layer for path, layer in layers if isinstance(layer, AdaptedLinear)}


def merge(model: PeftModel) -> None:
    """Put plain linear layers, with the learnt W and b, in the place of the adapted ones.

    Logits change by rounding alone. To undo a merge, load the checkpoint again.
    """
    for path, layer in adapted_layers(model).items():
        model.pretrained.set_submodule(path, layer.merged())
