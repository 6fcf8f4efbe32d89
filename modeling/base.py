"""What every method shares: a pretrained classifier, frozen, and a head that learns.

    input_ids, attention_mask (N, T) --encode--> features (N, d) --classify--> logits (N, C)

The sizes, here and in all of the code:

    N  examples of a batch       d  width of the encoder       r  rank of LoRA's update
    T  tokens of the longest     C  classes                    m  bottleneck of an adapter

Hidden states (N, T, d) are what the blocks pass on; pooled features (N, d) what the head reads.
A method is a subclass that says one thing, in `adapt`: what it adds or unfreezes.
"""

import inspect

from torch import Tensor, nn
from transformers import PreTrainedModel

from .architectures import architecture_of
from .loading import fingerprint


class PeftModel(nn.Module):
    """A pretrained classifier of which only `adapt`'s choice and the head are trained."""

    def __init__(self, pretrained: PreTrainedModel, **hyperparameters):
        super().__init__()
        self.pretrained = pretrained
        self.architecture = architecture_of(pretrained.config)
        choice = inspect.signature(self.adapt).bind(**hyperparameters)
        choice.apply_defaults()
        self.hyperparameters = choice.arguments
        self.fingerprint = fingerprint(pretrained)
        pretrained.requires_grad_(False)
        self.adapt(**hyperparameters)
        for path in self.architecture.head:
            pretrained.get_submodule(path).requires_grad_(True)

    def adapt(self) -> None:
        """Add or unfreeze what the method trains besides the head."""
        raise NotImplementedError

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        return self.pretrained.get_submodule(self.architecture.blocks)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and their mask (N, T) -> pooled features (N, d), what the head reads."""
        return self.architecture.encode(self.pretrained, input_ids, attention_mask)

    def classify(self, features: Tensor) -> Tensor:
        """Pooled features (N, d) -> logits (N, C)."""
        return self.architecture.classify(self.pretrained, features)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and their mask (N, T) -> logits (N, C)."""
        return self.classify(self.encode(input_ids, attention_mask))

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether all that is trained is the head.

        Then `encode` gives the same features in every epoch, and one pass over the texts serves
        them all.
        """
        return all(map(self.architecture.in_head, self.trainable_parameters()))

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by their name in the transformers model."""
        named = self.pretrained.named_parameters()
        return {name: p for name, p in named if p.requires_grad}

    def count_parameters(self) -> tuple[int, int]:
        """(trainable, all) parameters of the adapted model, each counted once."""
        trainable = sum(p.numel() for p in self.trainable_parameters().values())
        return trainable, sum(p.numel() for p in self.pretrained.parameters())
