"""What a run has learnt, in and out: the trained tensors, and what they belong to.

    trained.safetensors     the trained tensors and nothing else, head included
    checkpoint.json         method, hyperparameters, base model and its fingerprint, label names,
                            the SHA-256 of the tensors' file

The frozen weights are the base model's and are not stored again: for LoRA on DistilBERT-base the
tensors take a few megabytes where the whole model takes 268.
"""

import hashlib
import inspect
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
KINDS = {"base_model": str, "fingerprint": str, "digest": str, "label_names": list}
KINDS |= {"max_tokens": int}  # of what checkpoint.json holds, for a check of it
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
    with (folder / TENSORS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    about = {
        "format": FORMAT,
        "package_version": VERSION,
        "method": method_of(model),
        "hyperparameters": model.hyperparameters,
        "base_model": base_model,
        "family": model.pretrained.config.model_type,
        "fingerprint": model.fingerprint,
        "digest": digest,
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
    about = _read_about(folder)
    with (folder / TENSORS).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != about["digest"]:
            raise ValueError(
                f"{folder / TENSORS} is damaged, or not the one that {ABOUT} was written with; "
                "train again or copy both again"
            )
    source = base or about["base_model"]
    config, tokenizer = load_config(source, about["label_names"])
    pretrained = load_pretrained(source, config)
    model = METHODS[about["method"]](pretrained, **about["hyperparameters"])
    if model.fingerprint != about["fingerprint"]:
        raise ValueError(
            f"{source} is not the base model of {folder}, which was trained on "
            f"{about['base_model']}: its weights or shape differ; give the right one as base="
        )
    load_trained(model, folder / TENSORS)
    return model, tokenizer, about


def _read_about(folder):
    """What checkpoint.json says, once it has all that it must."""
    path = folder / ABOUT
    if not path.exists():
        expected = "expected results/<experiment>/checkpoints/<method>-seed<k>"
        raise FileNotFoundError(f"{folder} has no {ABOUT}; {expected}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] <= FORMAT:
            _check_kinds(about)
        version = about["package_version"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); train again") from None
    if about["format"] > FORMAT:
        raise ValueError(
            f"{folder} has format {about['format']}, written by version {version}; this is "
            f"{VERSION} and reads up to {FORMAT}: update it"
        )
    return about


def _check_kinds(about):
    """`KeyError` or `TypeError` unless all is there, and of its kind."""
    inspect.signature(METHODS[about["method"]].adapt).bind(None, **about["hyperparameters"])
    for name, kind in KINDS.items():
        if not isinstance(about[name], kind):
            raise TypeError(f"{name} is {about[name]!r}")
