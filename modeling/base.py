r"""What every method shares: a pretrained classifier, frozen, and a head that learns.

    input_ids, attention_mask (N, T) --encode--> features (N, d) --classify--> logits (N, C)
                \__ frozen_states __/

The first blocks may hold nothing that learns. What they make of a text never changes, so it is
computed once (`frozen_states`) and given to `encode` from then on.

The sizes, here and in all of the code:

    N  examples of a batch       d  width of the encoder       r  rank of LoRA's update
    T  tokens of the longest     C  classes                    m  bottleneck of an adapter

Hidden states (N, T, d) are what the blocks pass on; pooled features (N, d) what the head reads.
A method is a subclass that says one thing, in `adapt`: what it adds or unfreezes.
"""

import inspect
from functools import cached_property

from torch import Tensor, nn
from transformers import PreTrainedModel

from boundary import BadInput

from .architectures import architecture_of
from .loading import fingerprint
from .prefix import outside_blocks, running_from, states_after


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

    def last_blocks(self, count: int | None) -> list[nn.Module]:
        """The last `count` blocks, all for None. Raises `BadInput` where there are fewer."""
        blocks = list(self.blocks)
        if count is None:
            return blocks
        if not 0 <= count <= len(blocks):
            raise BadInput(f"blocks is {count}; expected 0 to {len(blocks)}, which the model has")
        return blocks[len(blocks) - count :]

    @cached_property
    def frozen_blocks(self) -> int:
        """How many of the first blocks have nothing that learns in or before them."""
        trained, row = self.trainable_parameters(), self.architecture
        if not all(row.in_head(name) or name.startswith(f"{row.blocks}.") for name in trained):
            return 0  # the embeddings, or what all blocks share
        learns = [any(p.requires_grad for p in block.parameters()) for block in self.blocks]
        return learns.index(True) if True in learns else len(learns)

    def train(self, mode: bool = True) -> "PeftModel":
        """As torch's, but without dropout in the frozen blocks: they give the same each time."""
        super().train(mode)
        if self.frozen_blocks:
            for module in (*outside_blocks(self.pretrained), *self.blocks[: self.frozen_blocks]):
                module.eval()
        return self

    def frozen_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and their mask (N, T) -> what the frozen blocks make of them.

        The hidden states (N, T, d), or where all blocks are frozen the pooled features (N, 1, d).
        """
        if self.frozen_blocks == len(self.blocks):
            return self.encode(input_ids, attention_mask)[:, None]
        return states_after(self.pretrained, self.frozen_blocks, input_ids, attention_mask)

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor, states: Tensor | None = None
    ) -> Tensor:
        """Token ids and their mask (N, T) -> pooled features (N, d), what the head reads.

        With the `frozen_states` of these texts, only the blocks after them run.
        """
        if states is None:
            return self.architecture.encode(self.pretrained, input_ids, attention_mask)
        if self.frozen_blocks == len(self.blocks):
            return states[:, 0]
        with running_from(self.pretrained, self.frozen_blocks, states):
            return self.architecture.encode(self.pretrained, input_ids, attention_mask)

    def classify(self, features: Tensor) -> Tensor:
        """Pooled features (N, d) -> logits (N, C)."""
        return self.architecture.classify(self.pretrained, features)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and their mask (N, T) -> logits (N, C)."""
        return self.classify(self.encode(input_ids, attention_mask))

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by their name in the transformers model."""
        named = self.pretrained.named_parameters()
        return {name: p for name, p in named if p.requires_grad}

    def count_parameters(self) -> tuple[int, int]:
        """(trainable, all) parameters of the adapted model, each counted once."""
        trainable = sum(p.numel() for p in self.trainable_parameters().values())
        return trainable, sum(p.numel() for p in self.pretrained.parameters())
