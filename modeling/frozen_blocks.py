"""The first blocks run once for each text, where all trainable parameters come after them.

    input_ids (N, T) --embeddings, blocks 0 .. depth - 1--> states (N, T, d)     frozen: stored
    states (N, T, d) --blocks depth .. L - 1--> last hidden states (N, T, d)     at every step

`states_after` computes the first line. Within `running_from` the model's own forward pass starts
from the states: the embeddings and the skipped blocks return them, whatever their input, while
masks, rotary embeddings and relative positions are made from the token ids and their mask as ever.

The result is that of the whole pass, to rounding, where the first line has neither trainable
parameters nor dropout. Padding is never attended to, so its states may be any numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .architectures import architecture_of
from .pooling import calling_with_inputs


class _Reached(Exception):
    """The forward pass has come to the block whose input is asked for."""


@torch.no_grad()
def states_after(
    pretrained: PreTrainedModel, depth: int, input_ids: Tensor, attention_mask: Tensor
) -> Tensor:
    """Token ids and their mask (N, T) -> the hidden states (N, T, d) that enter block `depth`.

    The later blocks do not run. Dropout does in training mode: `eval()` is the caller's.
    """

    def stop(block, hidden):
        raise _Reached(hidden)

    row = architecture_of(pretrained.config)
    try:
        with calling_with_inputs([pretrained.get_submodule(row.blocks)[depth]], stop):
            pretrained.base_model(input_ids=input_ids, attention_mask=attention_mask)
    except _Reached as reached:
        return reached.args[0]


@contextmanager
def running_from(pretrained: PreTrainedModel, depth: int, states: Tensor) -> Iterator[None]:
    """Within it, the forward pass on the token ids of `states` (N, T, d) starts at block `depth`.

    The skipped blocks stay in their places: decoders choose a block's mask by its index, ModernBERT
    by an attribute of the block.
    """
    row = architecture_of(pretrained.config)
    skipped = pretrained.get_submodule(row.blocks)[:depth]
    beside = outside_blocks(pretrained)

    def return_states(*inputs, **options):
        return states

    def return_tuple(*inputs, **options):
        return states, None

    try:
        for module in beside:
            module.forward = return_states
        for block in skipped:
            block.forward = return_tuple if row.block_is_tuple else return_states
        yield
    finally:
        for module in (*beside, *skipped):
            del module.forward  # the class's own is there again


def outside_blocks(pretrained: PreTrainedModel) -> list[nn.Module]:
    """What else runs before the second block: the embeddings, and what stands beside a block."""
    paths = [path.rpartition(".") for path in architecture_of(pretrained.config).embeddings]
    modules = [getattr(pretrained.get_submodule(parent), name, None) for parent, _, name in paths]
    return [module for module in modules if module is not None]
