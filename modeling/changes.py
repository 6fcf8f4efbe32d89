"""Where training has changed a model, block by block, to read the methods side by side.

    LoRA, full     relative size     ||dW||_F / ||W0||_F, with dW = (alpha / r) B A or W - W0
                   effective rank    exp(-sum_i p_i ln p_i), with p_i = s_i / sum_j s_j
                                     over the singular values s of dW
    adapters       relative size     mean over the real tokens of ||a(h)|| / ||h||, where the
                                     adapter turns h into h + a(h)

The effective rank (Roy and Vetterli 2007) is 1 where one direction holds all of the change and r
where r directions share it evenly.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .adapter import AdapterModel
from .base import PeftModel
from .lora import LoRALinear
from .merging import AdaptedLinear


def core(B: Tensor, A: Tensor) -> Tensor:
    """An (r, r) matrix with the singular values of B A, which has no others but zeros.

    B = Q R and A^T = P S with orthonormal columns in Q and P, so B A = Q (R S^T) P^T.
    """
    R = torch.linalg.qr(B.cpu().double(), mode="r").R
    S = torch.linalg.qr(A.cpu().double().T, mode="r").R
    return R @ S.T


def effective_rank(matrix: Tensor) -> float:
    """Exponential of the entropy of the singular values' shares; 0 for a matrix of zeros."""
    values = torch.linalg.svdvals(matrix)
    shares = values[values > 0] / values.sum()
    return torch.special.entr(shares).sum().exp().item() if len(shares) else 0.0


def relative_size(change: Tensor, original: Tensor) -> float:
    """||change||_F / ||original||_F"""
    return (change.norm() / original.norm()).item()


@torch.no_grad()
def changes(
    model: PeftModel, base: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor
) -> list[dict]:
    """A row for each block and matrix (or adapter): block, place, relative_size, effective_rank.

    `base` is the model before training; the batch (N, T) is what the adapters are measured on.
    Empty for methods that change no matrix of a block: head-only, BitFit.
    """
    if isinstance(model, AdapterModel):
        return _adapter_changes(model, input_ids, attention_mask)
    architecture = model.architecture
    rows = []
    for i, block in enumerate(model.blocks):
        before = base.get_submodule(architecture.blocks)[i]
        for path in dict.fromkeys(architecture.projections.values()):
            names = [name for name, other in architecture.projections.items() if other == path]
            layer = block.get_submodule(path)
            original = before.get_submodule(path).weight.cpu().double()
            if isinstance(layer, LoRALinear):
                change = layer.scaling * core(*layer.factors())
            elif isinstance(layer, AdaptedLinear):
                change = layer.merged_weight() - original
            elif isinstance(layer, nn.Linear) and layer.weight.requires_grad:
                change = layer.weight.cpu().double() - original
            else:
                continue
            rows.append(
                {
                    "block": i,
                    "place": "".join(names),  # "qkv" where they are one matrix
                    "relative_size": relative_size(change, original),
                    "effective_rank": effective_rank(change),
                }
            )
    return rows


def _adapter_changes(model, input_ids, attention_mask):
    rows, hooks = [], []
    real = attention_mask.bool()
    for i, block in list(enumerate(model.blocks))[model.frozen_blocks :]:
        places = ("attention", "feed-forward")
        for place, path in zip(places, model.architecture.sublayer_outputs, strict=True):
            row = {"block": i, "place": place, "relative_size": None, "effective_rank": None}
            rows.append(row)

            def measure(adapter, inputs, output, row=row):
                before, after = inputs[0].float()[real], output.float()[real]  # (tokens, d)
                sizes = (after - before).norm(dim=1) / before.norm(dim=1)
                row["relative_size"] = sizes.mean().item()

            adapter = block.get_submodule(path).adapter
            hooks.append(adapter.register_forward_hook(measure))
    model.eval()
    model.pretrained(input_ids=input_ids, attention_mask=attention_mask)  # all tokens, to the end
    for hook in hooks:
        hook.remove()
    return rows
