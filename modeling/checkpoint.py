"""What a run has learnt, in and out: the trained tensors, and what they belong to.

    trained.safetensors     the trained tensors and nothing else, head included
    checkpoint.json         method, hyperparameters, base model and its fingerprint, label names,
                            length and side of truncation, the SHA-256 of the tensors' file

The frozen weights are the base model's and are not stored again: for LoRA on DistilBERT-base the
tensors take a few megabytes where the whole model takes 268.
"""

import hashlib
import inspect
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from boundary import replacing

from .base import PeftModel
from .loading import load_config, load_pretrained, load_tokenizer
from .methods import METHODS, method_of

FORMAT = 1  # of checkpoint.json; a reader refuses newer ones
VERSION = "0.1.0"  # of this package
KINDS = {  # of what checkpoint.json holds, for a check of it
    **dict.fromkeys(("base_model", "fingerprint", "digest", "truncation"), str),
    **{"label_names": list, "max_tokens": int},
}
TENSORS, ABOUT = "trained.safetensors", "checkpoint.json"


def save_trained(model: PeftModel, path: Path) -> None:
    """Write the trained tensors to `path`, whole or not at all."""
    trained = model.trainable_parameters()
    with replacing(path) as file:
        save_file({name: p.detach().cpu().contiguous() for name, p in trained.items()}, file)


def load_trained(model: PeftModel, path: Path) -> None:
    """Copy the tensors of `path` into `model`, all or none; raises as `copy_tensors` does."""
    copy_tensors(model, load_file(path), str(path))


@torch.no_grad()
def copy_tensors(model: PeftModel, stored: dict[str, Tensor], source: str) -> None:
    """Copy tensors by name into all of the model's trainable parameters, or none.

    Raises `ValueError` where one is missing, extra or of another shape.
    """
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


def save_checkpoint(model: PeftModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write `model` to `folder`, so that `load_finetuned` can bring it back."""
    config = model.pretrained.config
    save_trained(model, folder / TENSORS)
    about = {
        "format": FORMAT,
        "package_version": VERSION,
        "method": method_of(model),
        "hyperparameters": model.hyperparameters,
        "base_model": config._name_or_path,
        "fingerprint": model.fingerprint,
        "digest": _digest(folder / TENSORS),
        "label_names": list(config.id2label.values()),
        "max_tokens": tokenizer.model_max_length,
        "truncation": tokenizer.truncation_side,
    }
    with replacing(folder / ABOUT) as file:
        file.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(
    folder: Path, base: str | None = None
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The model on its base, and the tokenizer, which truncates as in training.

    `base` is the pretrained model where it is not at its recorded place. Raises `ValueError` for
    a checkpoint that is damaged, newer than this package, or of another base model, and
    `OSError` where a file cannot be had.
    """
    about = _read_about(folder)
    if _digest(folder / TENSORS) != about["digest"]:
        raise ValueError(
            f"{folder / TENSORS} is damaged, or not the one that {ABOUT} was written with; "
            "train again or copy both again"
        )
    source = base or about["base_model"]
    config = load_config(source, about["label_names"])
    tokenizer = load_tokenizer(source, config, about["max_tokens"], about["truncation"])
    model = METHODS[about["method"]](load_pretrained(source, config), **about["hyperparameters"])
    if model.fingerprint != about["fingerprint"]:
        raise ValueError(
            f"{source} is not the base model of {folder}, which was trained on "
            f"{about['base_model']}: its weights or shape differ; give the right one as base="
        )
    load_trained(model, folder / TENSORS)
    return model, tokenizer


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_about(folder):
    """What checkpoint.json says, once it has all that it must."""
    path = folder / ABOUT
    if not path.exists():
        hint = "expected results/<experiment>/<method>-seed<k>"
        raise FileNotFoundError(f"{folder} has no {ABOUT}; {hint}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] > FORMAT:
            raise ValueError(
                f"{folder} has format {about['format']}, written by version "
                f"{about['package_version']}; this is {VERSION} and reads up to {FORMAT}: update it"
            )
        adapt = METHODS[about["method"]].adapt
        inspect.signature(adapt).bind(None, **about["hyperparameters"])
        if wrong := [name for name, kind in KINDS.items() if not isinstance(about[name], kind)]:
            raise TypeError(f"{wrong[0]} is {about[wrong[0]]!r}")
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); train again") from None
    return about
