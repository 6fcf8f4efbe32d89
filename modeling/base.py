r"""The base of every method: a frozen pretrained classifier, and a head that is trained.

    input_ids, attention_mask (N, T) --encode--> features --classify--> logits (N, C)
                \--frozen_states--> Frozen --encode--/

Features are (N, d), or (N, L + 1, d) where all layers are pooled: see pooling.py. Often the first
k blocks, and all that runs before them, have no trainable parameters. Their output for a text never
changes, so it is computed once (`frozen_states`) and given to `encode` from then on.

The sizes, here and in all of the code:

    N  examples of a batch       d  width of the encoder       r  rank of LoRA's update
    T  tokens of the longest     C  classes                    m  bottleneck of an adapter
    L  blocks                    R  pooled vectors of an example that are stored
    k  frozen blocks, the first ones

A block gets hidden states (N, T, d) and returns new ones. x_i (N, d) is the mean, over the
real tokens of a text, of the input of block i = 0 ... L - 1; x_L is the mean of the output, after
the encoder's last normalisation where it has one. A method is a subclass that says one thing, in
`adapt`: what it adds or unfreezes.
"""

import inspect
from contextlib import nullcontext
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from boundary import BadInput

from .architectures import architecture_of
from .frozen_blocks import outside_blocks, running_from, states_after
from .pooling import POOLINGS, LayersHead, mean_of_tokens, means_of_inputs


class Frozen(NamedTuple):
    """The output of the k frozen blocks for N texts, whatever the pooling."""

    hidden: Tensor | None  # (N, T, d), the input of block k; None where all blocks are frozen
    pooled: Tensor  # (N, R, d): x_0 ... x_k; for k = L also what "first" pools, last


class PeftModel(nn.Module):
    """A pretrained classifier; only the head and the parameters chosen by `adapt` are trained."""

    learning_rate: float | tuple[float, ...] | None = None  # where LEARNING_RATES has none

    def __init__(self, pretrained: PreTrainedModel, pooling: str = "first", **hyperparameters):
        super().__init__()
        if pooling not in POOLINGS:
            raise BadInput(f"POOLING is {pooling!r}; choose from {', '.join(POOLINGS)}")
        if hasattr(pretrained, "is_adapted"):
            raise BadInput("the model has been adapted before; adapt a fresh_copy of the first")
        self.pretrained, self.pooling = pretrained, pooling
        self.architecture = architecture_of(pretrained.config)
        if len(self.blocks) != (layers := pretrained.config.num_hidden_layers):
            line = f"{self.architecture.blocks} has {len(self.blocks)} blocks, the config {layers}"
            raise BadInput(f"{line}; blocks that share weights are not supported")
        bound = inspect.signature(self.adapt).bind(**hyperparameters)
        bound.apply_defaults()
        self.hyperparameters = bound.arguments
        pretrained.requires_grad_(False)
        pretrained.config.use_cache = False  # else decoders keep keys and values of every block
        pretrained.is_adapted = True
        self.adapt(**hyperparameters)
        for name, parameter in self.named_parameters():
            if parameter.requires_grad and not name.startswith("pretrained."):
                line = f"adapt has put {name!r} beside the model, where it would not be trained"
                raise BadInput(f"{line} nor saved; put it into self.pretrained")
        for path in self.architecture.head:  # POOLING = "layers" has its own head
            pretrained.get_submodule(path).requires_grad_(pooling != "layers")
        if pooling == "layers":
            config = pretrained.config
            head = LayersHead(len(self.blocks) + 1, config.hidden_size, config.num_labels)
            pretrained.layers_head = head.to(next(pretrained.parameters()))

    def adapt(self) -> None:
        """Add or unfreeze the parameters that the method trains, within `self.pretrained`.

        The head is always trained as well.
        """
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
            most = f"{len(blocks)}, which the model has"
            raise BadInput(f"blocks is {count}; expected --blocks 0 to {most}")
        return blocks[len(blocks) - count :]

    @cached_property
    def frozen_blocks(self) -> int:
        """The number k of leading blocks without trainable parameters at or before them."""
        trained, names = self.trainable_parameters(), self.architecture
        in_blocks = f"{names.blocks}."
        if not all(names.in_head(name) or name.startswith(in_blocks) for name in trained):
            return 0  # the embeddings, or parameters that all blocks share
        is_trained = [any(p.requires_grad for p in block.parameters()) for block in self.blocks]
        return is_trained.index(True) if True in is_trained else len(is_trained)

    @property
    def trains_head_alone(self) -> bool:
        """Whether only the head has trainable parameters."""
        return all(map(self.architecture.in_head, self.trainable_parameters()))

    def train(self, mode: bool = True) -> "PeftModel":
        """As in torch, but frozen blocks have no dropout: their output for a text never changes."""
        super().train(mode)
        if self.frozen_blocks:
            for module in (*outside_blocks(self.pretrained), *self.blocks[: self.frozen_blocks]):
                module.eval()
        return self

    @torch.no_grad()
    def frozen_states(self, input_ids: Tensor, attention_mask: Tensor) -> Frozen:
        """Token ids and their mask (N, T) -> the output of the frozen blocks, for any pooling."""
        k, L, pretrained = self.frozen_blocks, len(self.blocks), self.pretrained
        tokens = input_ids, attention_mask
        with means_of_inputs(self.blocks[:k], attention_mask) as means:  # x_0 ... x_{k - 1}
            hidden = states_after(pretrained, k, *tokens)
        means.append(mean_of_tokens(hidden, attention_mask))  # x_k
        if k < L:
            return Frozen(hidden, torch.stack(means, 1))
        first = self.architecture.own_pooling(pretrained.config, hidden, attention_mask)
        return Frozen(None, torch.stack([*means, first.to(means[0].dtype)], 1))

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        frozen: tuple[Tensor | None, Tensor] | None = None,
    ) -> Tensor:
        """Token ids and their mask (N, T) -> pooled features (N, d) or, of layers, (N, L + 1, d).

        With the `frozen_states` of these texts, only the later blocks run. Raises `ValueError` if
        they are given to a model without frozen blocks: its embeddings may learn.
        """
        if frozen and not self.frozen_blocks:
            raise ValueError("no block is frozen: give no frozen states")
        hidden, pooled = frozen or (None, None)
        if frozen and hidden is None:  # `pooled` is x_0 ... x_L, and what "first" pools
            return pooled[:, {"layers": slice(-1), "mean": -2, "first": -1}[self.pooling]]
        k = self.frozen_blocks
        start = running_from(self.pretrained, k, hidden) if frozen else nullcontext()
        later = self.blocks[k + 1 if frozen else 0 :] if self.pooling == "layers" else ()
        with start, means_of_inputs(later, attention_mask) as means:  # `pooled` has x_0 ... x_k
            encoder = self.pretrained.base_model
            last = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "first":
            return self.architecture.own_pooling(self.pretrained.config, last, attention_mask)
        mean = mean_of_tokens(last, attention_mask)  # x_L
        if self.pooling == "mean":
            return mean
        layers = torch.stack([*means, mean], 1)
        return torch.cat([pooled, layers], 1) if frozen else layers

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
        parameters = self.pretrained.named_parameters()
        return {name: p for name, p in parameters if p.requires_grad}

    @torch.no_grad()
    def load_trained(self, stored: dict[str, Tensor], source: object) -> None:
        """Copy tensors by name into all trainable parameters, or into none.

        Raises `BadInput` where names or shapes differ. `source` is the tensors' source, for the
        message.
        """
        trained = self.trainable_parameters()
        shapes = {(name, tuple(tensor.shape)) for name, tensor in stored.items()}
        if wrong := shapes ^ {(name, tuple(p.shape)) for name, p in trained.items()}:
            name, shape = min(wrong)
            raise BadInput(f"{source} does not fit the method: see {name} {shape}")
        for name, parameter in trained.items():
            parameter.copy_(stored[name])

    def count_parameters(self) -> tuple[int, int]:
        """The numbers of trainable and of all parameters, each parameter counted once."""
        trainable = sum(p.numel() for p in self.trainable_parameters().values())
        return trainable, sum(p.numel() for p in self.pretrained.parameters())
