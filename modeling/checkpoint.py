"""What a run has learnt, in and out: the trained tensors, and what they belong to.

    trained.safetensors     the trained tensors and nothing else, head included
    checkpoint.json         method, hyperparameters, pooling, base model and its fingerprint, label
                            names, length and side of truncation, the tensors' SHA-256

The frozen weights are the base model's and are not stored again: for LoRA on DistilBERT-base the
tensors take a few megabytes where the whole model takes 268.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from boundary import BadInput, reading, replacing, write

from .base import PeftModel
from .loading import load_config, load_pretrained, load_tokenizer
from .methods import METHODS, hyperparameters_of, method_of

FORMAT = 3  # of checkpoint.json; others are refused
TENSORS, ABOUT = "trained.safetensors", "checkpoint.json"
REMEDY = "train again or copy it again"


def save_trained(model: PeftModel, path: Path) -> None:
    """Write the trained tensors to `path`, whole or not at all."""
    trained = model.trainable_parameters()
    with replacing(path) as file:
        save_file({name: p.detach().cpu().contiguous() for name, p in trained.items()}, file)


def load_trained(model: PeftModel, path: Path) -> None:
    """Copy the tensors of `path` into `model`, all or none. Raises `BadInput`."""
    with reading(str(path), REMEDY):
        copy_tensors(model, load_file(path), str(path))


@torch.no_grad()
def copy_tensors(model: PeftModel, stored: dict[str, Tensor], source: str) -> None:
    """Copy tensors by name into all of the model's trainable parameters, or none.

    Raises `BadInput` where one is missing, extra, of another shape, or not of finite numbers.
    """
    trained = model.trainable_parameters()
    for name in sorted(stored.keys() | trained.keys()):
        if name not in stored:
            raise BadInput(f"{source} lacks the trained tensor {name}")
        if name not in trained:
            raise BadInput(f"{source} has {name}, which this model does not train")
        if stored[name].shape != trained[name].shape:
            found, expected = tuple(stored[name].shape), tuple(trained[name].shape)
            raise BadInput(f"{name} in {source} has shape {found}, expected {expected}")
        if not (stored[name].is_floating_point() and stored[name].isfinite().all()):
            raise BadInput(f"{name} in {source} has values that are not finite; {REMEDY}")
    for name, parameter in trained.items():
        parameter.copy_(stored[name])


def save_checkpoint(model: PeftModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write `model` to `folder`, so that `load_finetuned` can bring it back."""
    config = model.pretrained.config
    save_trained(model, folder / TENSORS)
    about = {
        "format": FORMAT,
        "method": method_of(model),
        "hyperparameters": model.hyperparameters,
        "pooling": model.pooling,
        "base_model": config._name_or_path,
        "fingerprint": model.fingerprint,
        "digest": _digest(folder / TENSORS),
        "label_names": list(config.id2label.values()),
        "max_tokens": tokenizer.model_max_length,
        "truncation": tokenizer.truncation_side,
    }
    write(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def load_checkpoint(
    folder: Path, base: str | None = None
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The model on its base, and the tokenizer, which truncates as in training.

    `base` is the pretrained model where it is not at its recorded place. Raises `BadInput` for a
    checkpoint that is damaged, newer than this package, or of another base model.
    """
    about = _read_about(folder)
    with reading(f"the checkpoint {folder}", REMEDY):
        if _digest(folder / TENSORS) != about["digest"]:
            raise BadInput(
                f"{folder / TENSORS} is damaged, or not the one that {ABOUT} was written with; "
                "train again or copy both again"
            )
        source = base or about["base_model"]
        config = load_config(source, about["label_names"])
        tokenizer = load_tokenizer(source, config, about["max_tokens"], about["truncation"])
        adapt = METHODS[about["method"]]
        pretrained = load_pretrained(source, config)
        model = adapt(pretrained, about["pooling"], **about["hyperparameters"])
        if model.fingerprint != about["fingerprint"]:
            raise BadInput(
                f"{source} is not the base model of {folder}, which was trained on "
                f"{about['base_model']}: its weights or shape differ; give the right one as base="
            )
        load_trained(model, folder / TENSORS)
    return model, tokenizer


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_about(folder):
    """What checkpoint.json says, once nothing in it can be misunderstood."""
    path = folder / ABOUT
    if not path.exists():
        raise BadInput(f"{folder} has no {ABOUT}; expected results/<experiment>/<method>-seed<k>")
    with reading(str(path), REMEDY):
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise BadInput(
                f"{folder} has format {about['format']}, and this version reads {FORMAT}: use the "
                "version that wrote it, or train again"
            )
        if type(about["label_names"]) is not list or type(about["max_tokens"]) is not int:
            raise TypeError(f"label_names {about['label_names']}, max_tokens {about['max_tokens']}")
        # A hyperparameter that is missing would take its default, and "false" would count as true.
        found, defaults = about["hyperparameters"], hyperparameters_of(about["method"])
        del defaults["learning_rate"]
        if {k: type(v) is bool for k, v in found.items()} != {
            k: type(v) is bool for k, v in defaults.items()
        }:
            raise TypeError(f"hyperparameters {found}")
    return about
