"""The first blocks run once for each text, where all trainable parameters come after them.

    input_ids (N, T) --embeddings, blocks 0 .. k - 1--> hidden (N, T, d)         frozen: stored
    hidden (N, T, d) --blocks k .. L - 1--> last hidden states (N, T, d)         at every step

`states_after` computes the first line. Within `running_from` the model's own forward pass starts
from the stored hidden states: the embeddings and the skipped blocks return them, whatever their
input, while masks, rotary embeddings and relative positions are made from the token ids and their
mask as ever.

The logits are those of the whole model, up to rounding, if what is skipped has no trainable
parameters and no dropout. Padding is never attended to, so its hidden states may be any finite
numbers.
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
    pretrained: PreTrainedModel, k: int, input_ids: Tensor, attention_mask: Tensor
) -> Tensor:
    """Token ids and their mask (N, T) -> the hidden states (N, T, d) that enter block k.

    The later blocks do not run. Dropout does in training mode: `eval()` is the caller's.
    """

    def stop(block, hidden):
        raise _Reached(hidden)

    row = architecture_of(pretrained.config)
    try:
        with calling_with_inputs([pretrained.get_submodule(row.blocks)[k]], stop):
            pretrained.base_model(input_ids=input_ids, attention_mask=attention_mask)
    except _Reached as reached:
        return reached.args[0]


@contextmanager
def running_from(pretrained: PreTrainedModel, k: int, hidden: Tensor) -> Iterator[None]:
    """Within it, the forward pass on the texts of `hidden` (N, T, d) starts at block k >= 1.

    The skipped blocks stay in their places: decoders choose a block's mask by its index, ModernBERT
    by an attribute of the block.
    """
    row = architecture_of(pretrained.config)
    skipped = pretrained.get_submodule(row.blocks)[:k]
    beside = outside_blocks(pretrained)

    def return_hidden(*inputs, **options):
        return hidden

    def return_tuple(*inputs, **options):
        return hidden, None

    try:
        for module in beside:
            module.forward = return_hidden
        for block in skipped:
            block.forward = return_tuple if row.block_is_tuple else return_hidden
        yield
    finally:
        for module in (*beside, *skipped):
            del module.forward  # the class's own is there again


def begin_alike(one: PreTrainedModel, other: PreTrainedModel, k: int) -> bool:
    """Whether all that runs before block k is the same in both: modules, their hooks, numbers."""
    blocks = architecture_of(one.config).blocks
    ours, theirs = ([*outside_blocks(m), *m.get_submodule(blocks)[:k]] for m in (one, other))
    return len(ours) == len(theirs) and all(map(_are_alike, ours, theirs))


def _are_alike(one, other):
    kinds = [
        [(type(m), len(m._forward_pre_hooks), len(m._forward_hooks)) for m in each.modules()]
        for each in (one, other)
    ]
    numbers, others = one.state_dict(), other.state_dict()
    is_same = kinds[0] == kinds[1] and numbers.keys() == others.keys()
    return is_same and all(torch.equal(numbers[name], others[name]) for name in numbers)


def outside_blocks(pretrained: PreTrainedModel) -> list[nn.Module]:
    """What else runs before the second block: the embeddings, and what stands beside a block."""
    modules, paths = dict(pretrained.named_modules()), architecture_of(pretrained.config).embeddings
    return [modules[path] for path in paths if path in modules]
