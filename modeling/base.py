r"""What every method shares: a pretrained classifier, frozen, and a head that learns.

    input_ids, attention_mask (N, T) --encode--> features --classify--> logits (N, C)
                \--frozen_states--> Frozen --encode--/

Features are (N, d), or (N, L + 1, d) where the head reads all layers: see pooling.py. The first
blocks may hold nothing that learns. What they make of a text never changes, so it is computed once
(`frozen_states`) and given to `encode` from then on.

The sizes, here and in all of the code:

    N  examples of a batch       d  width of the encoder       r  rank of LoRA's update
    T  tokens of the longest     C  classes                    m  bottleneck of an adapter
    L  blocks                    R  pooled vectors of an example that are stored

Hidden states (N, T, d) are what the blocks pass on; pooled features what the head reads.
A method is a subclass that says one thing, in `adapt`: what it adds or unfreezes.
"""

import inspect
from contextlib import ExitStack
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from boundary import BadInput

from .architectures import architecture_of, first_token
from .fast import first_token_alone
from .frozen_blocks import outside_blocks, running_from, states_after
from .loading import fingerprint
from .pooling import POOLINGS, LayersHead, mean_of_tokens, means_of_inputs


class Frozen(NamedTuple):
    """What the frozen blocks make of N texts."""

    hidden: Tensor | None  # (N, T, d), what enters the first block that learns; None without one
    pooled: Tensor | None  # (N, R, d), their part of the features; None where they have none


class PeftModel(nn.Module):
    """A pretrained classifier of which only `adapt`'s choice and the head are trained."""

    learning_rate: float | None = None  # where LEARNING_RATES has none: a first guess, to be tuned

    def __init__(self, pretrained: PreTrainedModel, pooling: str = "first", **hyperparameters):
        super().__init__()
        if pooling not in POOLINGS:
            raise BadInput(f"POOLING is {pooling!r}; choose from {', '.join(POOLINGS)}")
        self.pretrained, self.pooling = pretrained, pooling
        self.architecture = architecture_of(pretrained.config)
        choice = inspect.signature(self.adapt).bind(**hyperparameters)
        choice.apply_defaults()
        self.hyperparameters = choice.arguments
        self.fingerprint = fingerprint(pretrained)
        pretrained.requires_grad_(False)
        self.adapt(**hyperparameters)
        for path in self.architecture.head:  # POOLING = "layers" has its own head
            pretrained.get_submodule(path).requires_grad_(pooling != "layers")
        if pooling == "layers":
            config = pretrained.config
            head = LayersHead(len(self.blocks) + 1, config.hidden_size, config.num_labels)
            pretrained.layers_head = head.to(next(pretrained.parameters()))

    def adapt(self) -> None:
        """Add or unfreeze what the method trains besides the head."""
        raise NotImplementedError

    def to_peft(self) -> tuple[dict, dict[str, Tensor]]:
        """peft's config of this method, and its tensors by peft's names, without the head.

        Raises `BadInput` where peft has no form for it.
        """
        raise BadInput(f"peft has no form for {type(self).__name__}; keep the checkpoint")

    def relative_rate(self, parameter: str) -> float:
        """The factor on the run's learning rate for a trained parameter of this name."""
        return 1.0

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

    @property
    def trains_head_alone(self) -> bool:
        """Whether all that learns is the head."""
        return all(map(self.architecture.in_head, self.trainable_parameters()))

    @property
    def stored_vectors(self) -> tuple[int, int]:
        """How many vectors of width d `frozen_states` has for each token, and for each text."""
        k, L = self.frozen_blocks, len(self.blocks)
        return int(k < L), k + 1 if self.pooling == "layers" else int(k == L)

    def train(self, mode: bool = True) -> "PeftModel":
        """As torch's, but without dropout in the frozen blocks: they give the same each time."""
        super().train(mode)
        if self.frozen_blocks:
            for module in (*outside_blocks(self.pretrained), *self.blocks[: self.frozen_blocks]):
                module.eval()
        return self

    def frozen_states(self, input_ids: Tensor, attention_mask: Tensor) -> Frozen:
        """Token ids and their mask (N, T) -> what the frozen blocks make of them.

        Where all blocks are frozen the features themselves, (N, 1, d) or (N, L + 1, d).
        """
        if self.frozen_blocks == len(self.blocks):
            features = self.encode(input_ids, attention_mask)
            return Frozen(None, features if features.ndim == 3 else features[:, None])
        frozen = self.blocks[: self.frozen_blocks] if self.pooling == "layers" else []
        with means_of_inputs(frozen, attention_mask) as means:
            hidden = states_after(self.pretrained, self.frozen_blocks, input_ids, attention_mask)
        means = [*means, mean_of_tokens(hidden, attention_mask)] if means else []
        return Frozen(hidden, torch.stack(means, 1) if means else None)

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        frozen: tuple[Tensor | None, Tensor | None] | None = None,
    ) -> Tensor:
        """Token ids and their mask (N, T) -> pooled features (N, d) or, of layers, (N, L + 1, d).

        With the `frozen_states` of these texts, only the blocks after them run.
        """
        hidden, pooled = frozen or (None, None)
        if frozen and hidden is None:
            return pooled if self.pooling == "layers" else pooled[:, 0]
        row = self.architecture
        with ExitStack() as stack:
            if hidden is not None:
                stack.enter_context(running_from(self.pretrained, self.frozen_blocks, hidden))
            if self.pooling == "first" and row.own_pooling is first_token:
                T = input_ids.shape[1]  # without what follows: the same, and slower
                stack.enter_context(first_token_alone(self.blocks[-1], row, T))
            if self.pooling == "layers":
                later = self.blocks[self.frozen_blocks + 1 if frozen else 0 :]
                means = stack.enter_context(means_of_inputs(later, attention_mask))
            last = self.pretrained.base_model(
                input_ids=input_ids, attention_mask=attention_mask, **row.options
            ).last_hidden_state
        if self.pooling == "layers" and means:
            means = torch.stack(means, 1)
            pooled = means if pooled is None else torch.cat([pooled, means], 1)
        return self.pool(last, attention_mask, pooled)

    def pool(self, last: Tensor, attention_mask: Tensor, means: Tensor | None) -> Tensor:
        """What the head reads: of the last hidden states (N, T, d), and of `means` (N, L, d)."""
        if self.pooling == "first":
            return self.architecture.own_pooling(self.pretrained.config, last, attention_mask)
        mean = mean_of_tokens(last, attention_mask)
        return mean if self.pooling == "mean" else torch.cat([means, mean[:, None]], 1)

    def classify(self, features: Tensor) -> Tensor:
        """Pooled features (N, d) or, of layers, (N, L + 1, d) -> logits (N, C)."""
        if self.pooling == "layers":
            return self.pretrained.layers_head(features)
        return self.architecture.classify(self.pretrained, features)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and their mask (N, T) -> logits (N, C)."""
        return self.classify(self.encode(input_ids, attention_mask))

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by their name in the transformers model."""
        named = self.pretrained.named_parameters()
        return {name: p for name, p in named if p.requires_grad}

    @torch.no_grad()
    def load_trained(self, stored: dict[str, Tensor], source: object) -> None:
        """Copy tensors by name into all trainable parameters, or none; `BadInput` if they differ.

        `source` is where they come from, for the message.
        """
        trained = self.trainable_parameters()
        named = (stored, trained)
        shapes = [{name: tuple(t.shape) for name, t in tensors.items()} for tensors in named]
        for name in sorted(stored.keys() | trained.keys()):
            found, expected = (shape.get(name, "nothing") for shape in shapes)
            if found != expected:
                raise BadInput(f"{name} in {source} is {found}, expected {expected}")
            if not stored[name].isfinite().all():
                raise BadInput(f"{name} in {source} has values that are not finite")
        for name, parameter in trained.items():
            parameter.copy_(stored[name])

    def count_parameters(self) -> tuple[int, int]:
        """(trainable, all) parameters of the adapted model, each counted once."""
        trainable = sum(p.numel() for p in self.trainable_parameters().values())
        return trainable, sum(p.numel() for p in self.pretrained.parameters())
