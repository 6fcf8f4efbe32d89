"""The first blocks run once for each text, where all trainable parameters come after them.

    input_ids (N, T) --embeddings, blocks 0 .. k - 1--> hidden (N, T, d)         frozen: stored
    hidden (N, T, d) --blocks k .. L - 1--> last hidden states (N, T, d)         at every step

`states_after` computes the first line. Within `running_from` the model's own forward pass starts
from the stored hidden states: the embeddings and the skipped blocks return them, whatever their
input, while masks, rotary embeddings and relative positions are made from the token ids and their
mask as ever.

The logits are those of the whole model, up to rounding, if the skipped modules have no trainable
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

    The later blocks do not run; for k = L, the encoder's last hidden states. In training mode
    dropout is active: call `eval()` before.
    """

    def stop(block, hidden):
        raise _Reached(hidden)

    blocks = pretrained.get_submodule(architecture_of(pretrained.config).blocks)
    try:
        with calling_with_inputs(blocks[k : k + 1], stop):
            last = pretrained.base_model(input_ids=input_ids, attention_mask=attention_mask)
    except _Reached as reached:
        return reached.args[0]
    return last.last_hidden_state


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
            del module.forward  # so the class's own is used again


@torch.no_grad()
def begin_alike(one: PreTrainedModel, other: PreTrainedModel, k: int) -> bool:
    """Whether block k has the same input in both models; for k = L, whether the outputs agree.

    The weights before block k must be equal; the hidden states of some tokens must agree up to
    rounding, which may depend on where in memory the weights are. Both models are in eval mode
    afterwards.
    """
    path, outputs, numbers = architecture_of(one.config).blocks, [], []
    ids = torch.arange(8)[None] % one.config.vocab_size
    for model in (one.eval(), other.eval()):
        blocks, reached = model.get_submodule(path), []
        parts = *outside_blocks(model), *blocks[:k]
        numbers.append([part.state_dict() for part in parts])
        hook = blocks[k - 1].register_forward_hook(lambda *call, at=reached: at.append(call[-1]))
        last = model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))
        hook.remove()
        (hidden,) = reached if k < len(blocks) else [last.last_hidden_state]
        outputs.append(hidden[0] if isinstance(hidden, tuple) else hidden)
    is_near = torch.allclose(*outputs, rtol=1e-4, atol=1e-4, equal_nan=True)
    return is_near and all(map(_are_equal, *numbers))


def _are_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def outside_blocks(pretrained: PreTrainedModel) -> list[nn.Module]:
    """The other modules before the second block: embeddings, and modules beside a block."""
    modules, paths = dict(pretrained.named_modules()), architecture_of(pretrained.config).embeddings
    return [modules[path] for path in paths if path in modules]
