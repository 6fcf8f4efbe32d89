"""What a run has learnt, in and out: the trained tensors, and what they belong to.

    trained.safetensors     the trained tensors and nothing else, head included
    checkpoint.json         method, hyperparameters, base model and its fingerprint, label names

The frozen weights are the base model's and are not stored again: for LoRA on DistilBERT-base the
tensors take a few megabytes where the whole model takes 268.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .base import PeftModel, load_config, load_pretrained
from .methods import METHODS, method_of

FORMAT = 1  # of checkpoint.json; a reader refuses newer ones
VERSION = "0.1.0"  # of this package
TENSORS, ABOUT = "trained.safetensors", "checkpoint.json"


def save_trained(model: PeftModel, path: Path) -> None:
    """Write the trained tensors to `path`, whole or not at all."""
    trained = model.trainable_parameters()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_file({name: p.detach().cpu().contiguous() for name, p in trained.items()}, unfinished)
    os.replace(unfinished, path)


def load_trained(model: PeftModel, path: Path) -> None:
    """Copy the tensors of `path` into `model`; `ValueError` unless they are just its trained ones.

    Nothing is copied where the file is damaged or a tensor missing, extra or of another shape.
    """
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); train again or copy it again") from None
    copy_tensors(model, stored, str(path))


@torch.no_grad()
def copy_tensors(model: PeftModel, stored: dict[str, Tensor], source: str) -> None:
    """Copy tensors by name into all of the model's trainable parameters, or none."""
    trained = model.trainable_parameters()
    for name in sorted(stored.keys() | trained.keys()):
        if name not in stored:
            raise ValueError(f"{source} lacks the trained tensor {name}")
        if name not in trained:
            raise ValueError(f"{source} has {name}, which this model does not train")
        if stored[name].shape != trained[name].shape:
            found, expected = tuple(stored[name].shape), tuple(trained[name].shape)
            raise ValueError(f"{name} in {source} has shape {found}, expected {expected}")
    for name, parameter in trained.items():
        parameter.copy_(stored[name])


def save_checkpoint(
    model: PeftModel, folder: Path, base_model: str, label_names: list[str], max_tokens: int
) -> None:
    """Write `model` to `folder`, so that `load_finetuned` can bring it back."""
    save_trained(model, folder / TENSORS)
    about = {
        "format": FORMAT,
        "package_version": VERSION,
        "method": method_of(model),
        "hyperparameters": model.hyperparameters,
        "base_model": base_model,
        "family": model.pretrained.config.model_type,
        "fingerprint": model.fingerprint,
        "label_names": label_names,
        "max_tokens": max_tokens,
    }
    unfinished = folder / f"{ABOUT}.part"
    unfinished.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / ABOUT)


def load_checkpoint(folder: Path, base: str | None = None) -> tuple[PeftModel, object, dict]:
    """The model on its base, the base's tokenizer, and what checkpoint.json says.

    `base` is the pretrained model where it is not at its recorded place. Raises `ValueError` for
    a checkpoint that is damaged, newer than this package, or of another base model, and
    `OSError` where a file cannot be had.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["format"] > FORMAT:
            raise ValueError(
                f"{folder} has format {about['format']}, written by version "
                f"{about['package_version']}; this is {VERSION} and reads up to {FORMAT}: update it"
            )
        method, hyperparameters = METHODS[about["method"]], about["hyperparameters"]
        recorded, labels = about["base_model"], about["label_names"]
        expected, _ = about["fingerprint"], about["max_tokens"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / ABOUT} is damaged ({error!r}); train again") from None
    source = base or recorded
    config, tokenizer = load_config(source, labels)
    model = method(load_pretrained(source, config), **hyperparameters)
    if model.fingerprint != expected:
        raise ValueError(
            f"{source} is not the base model of {folder}, which was trained on {recorded}: its "
            "weights or shape differ; give the right one as base="
        )
    load_trained(model, folder / TENSORS)
    return model, tokenizer, about
