"""The trained tensors, and nothing else, in and out, as safetensors.

The frozen weights are the pretrained model's and are not stored again: for LoRA on DistilBERT-base
the file has a few megabytes where the whole model has 268.
"""

import os
from pathlib import Path

from safetensors.torch import load_file, save_file

from .base import PeftModel


def save_trained(model: PeftModel, path: Path) -> int:
    """Write the trained tensors to `path`, whole or not at all; returns the file's bytes."""
    trained = model.trainable_parameters()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_file({name: p.detach().cpu().contiguous() for name, p in trained.items()}, unfinished)
    os.replace(unfinished, path)
    return path.stat().st_size


def load_trained(model: PeftModel, path: Path) -> None:
    """Copy the tensors of `path` into `model`; `ValueError` unless they are just its trained ones.

    Nothing is copied where a tensor is missing, extra or of another shape.
    """
    stored, trained = load_file(path), model.trainable_parameters()
    for name in sorted(stored.keys() | trained.keys()):
        if name not in stored:
            raise ValueError(f"{path} lacks the trained tensor {name}")
        if name not in trained:
            raise ValueError(f"{path} has {name}, which this model does not train")
        if stored[name].shape != trained[name].shape:
            found, expected = tuple(stored[name].shape), tuple(trained[name].shape)
            raise ValueError(f"{name} in {path} has shape {found}, expected {expected}")
    for name, parameter in trained.items():
        parameter.data.copy_(stored[name])
