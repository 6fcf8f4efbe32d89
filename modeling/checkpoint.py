"""What a run has learnt, in and out: the trained tensors, and what they belong to.

    trained.safetensors     the trained tensors and nothing else, head included
    checkpoint.json         method, hyperparameters, pooling, base model and its fingerprint, label
                            names, length and side of truncation, and the SHA-256 of all of that
                            and of the tensors' file

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
from .methods import Method, method_of

TENSORS, ABOUT = "trained.safetensors", "checkpoint.json"


def save_checkpoint(model: PeftModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write `model` to `folder`, so that `load_finetuned` can bring it back."""
    save_trained(model, folder / TENSORS)
    config = model.pretrained.config
    about = {
        "method": method_of(model),
        "hyperparameters": model.hyperparameters,
        "pooling": model.pooling,
        "base_model": config._name_or_path,
        "fingerprint": model.fingerprint,
        "label_names": list(config.id2label.values()),
        "max_tokens": tokenizer.model_max_length,
        "truncation": tokenizer.truncation_side,
    }
    about["digest"] = _digest(folder, about)
    write(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def save_trained(model: PeftModel, path: Path) -> None:
    """Write the trained tensors to `path`, whole or not at all."""
    trained = model.trainable_parameters()
    with replacing(path) as file:
        save_file({name: p.detach().cpu().contiguous() for name, p in trained.items()}, file)


def load_trained(model: PeftModel, path: Path) -> None:
    """Copy the tensors of `path` into `model`, all or none. Raises `BadInput`."""
    with reading(str(path)):
        copy_tensors(model, load_file(path), str(path))


def load_checkpoint(
    folder: Path, base: str | None = None
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The model on its base, and the tokenizer, which truncates as in training.

    `base` is the pretrained model where it is not at its recorded place. Raises `BadInput` for a
    checkpoint that is damaged, of another version, or of another base model.
    """
    if not (folder / ABOUT).exists():
        raise BadInput(f"{folder} has no {ABOUT}; expected results/<experiment>/<method>-seed<k>")
    with reading(f"the checkpoint {folder}", "train again or copy it again"):
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about.pop("digest") != _digest(folder, about):
            raise BadInput(
                f"{ABOUT} and {TENSORS} in {folder} are damaged, do not belong together, or are of "
                "another version; train again or copy both again"
            )
        tensors = load_file(folder / TENSORS)
    source = base or about["base_model"]
    config = load_config(source, about["label_names"])
    tokenizer = load_tokenizer(source, config, about["max_tokens"], about["truncation"])
    choice = about["hyperparameters"]
    method = Method.parse(Method(about["method"], choice, tuple(choice)).text, {})
    model = method.build(load_pretrained(source, config), about["pooling"])
    if model.fingerprint != about["fingerprint"]:
        raise BadInput(
            f"{source} is not the base model of {folder}, which was trained on "
            f"{about['base_model']}: its weights or shape differ; give the right one as base="
        )
    copy_tensors(model, tensors, str(folder / TENSORS))
    return model, tokenizer


@torch.no_grad()
def copy_tensors(model: PeftModel, stored: dict[str, Tensor], source: str) -> None:
    """Copy tensors by name into all of the model's trainable parameters, or none.

    Raises `BadInput` where one is missing, extra, of another shape, or not of finite numbers.
    """
    trained = model.trainable_parameters()
    for name in sorted(stored.keys() ^ trained.keys()):
        verb = "lacks the trained tensor" if name in trained else "has, beyond what is trained,"
        raise BadInput(f"{source} {verb} {name}")
    for name, parameter in trained.items():
        if stored[name].shape != parameter.shape:
            found, expected = tuple(stored[name].shape), tuple(parameter.shape)
            raise BadInput(f"{name} in {source} has shape {found}, expected {expected}")
        if not (stored[name].is_floating_point() and stored[name].isfinite().all()):
            raise BadInput(f"{name} in {source} has values that are not finite")
    for name, parameter in trained.items():
        parameter.copy_(stored[name])


def _digest(folder, about):
    """SHA-256 of what checkpoint.json says, but for this, and of the tensors' file."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update((folder / TENSORS).read_bytes())
    return digest.hexdigest()
