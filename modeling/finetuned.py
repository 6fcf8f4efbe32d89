"""A fine-tuned classifier of texts: what a run has learnt, in and out, and its use.

    classify = load_finetuned("results/quick/lora-seed0")
    classify(["A wonderful film."])                 [("positive", 0.97)]
    classify.probabilities(["A wonderful film."])   [[0.03, 0.97]]
    classify.export("for-peft", format="peft")

The trained tensors are stored, head included; the frozen weights are the base model's.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

import hardware
from boundary import BadInput, expanded, reading, replacing, write

from .base import PeftModel
from .card import model_card
from .export import export_peft, export_transformers, import_peft
from .loading import load_config, load_pretrained, load_tokenizer
from .methods import Method, method_of

TENSORS, ABOUT = "trained.safetensors", "checkpoint.json"
AT_ONCE = 16  # texts of a micro-batch


class Finetuned:
    """Call it with a list of texts; it computes where its model is."""

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path | None = None
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.folder = folder  # of the run, if it is one's: the model card reads its record
        self.label_names = list(model.pretrained.config.id2label.values())

    def __call__(self, texts: list[str]) -> list[tuple[str, float]]:
        """The label of each text and its probability."""
        best = self.probabilities(texts).max(1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.label_names[label], probability) for label, probability in pairs]

    @torch.no_grad()
    def probabilities(self, texts: list[str], progress: bool = False) -> Tensor:
        """(n, C), the labels in the order of `label_names`; of any number of texts.

        Raises `BadInput` for an empty text, where the tokenizer adds no special tokens.
        """
        device = self.model.pretrained.device
        ids = self.tokenizer(texts, truncation=True)["input_ids"] if texts else []
        if not all(ids):
            raise BadInput("a text has no token; leave it out")
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        found = torch.zeros(len(ids), len(self.label_names))
        starts = range(0, len(ids), AT_ONCE)
        for start in tqdm(starts, unit="batch", disable=None if progress else True):
            index = order[start : start + AT_ONCE]
            batch = {"input_ids": [ids[i] for i in index]}
            batch = self.tokenizer.pad(batch, return_tensors="pt").to(device)
            with hardware.autocast(device):
                features = self.model.encode(batch["input_ids"], batch["attention_mask"])
            found[index] = self.model.classify(features.float()).softmax(1).cpu()
        return found

    def export(self, folder: str | Path, format: str) -> None:
        """Write it as `format` "peft" or "transformers", with the tokenizer and a model card.

        The card is README.md; an earlier card is replaced. Raises `BadInput` for a method or a
        reading that the other library has no form for, and for a README.md that is no card.
        """
        formats = {"peft": export_peft, "transformers": export_transformers}
        if format not in formats:
            raise BadInput(f"unknown format {format!r}; choose from {', '.join(formats)}")
        folder = expanded(folder)
        readme = folder / "README.md"
        card = model_card(self.model, self.tokenizer, self.folder, format)
        if readme.exists() and not readme.read_bytes().startswith(b"---"):
            raise BadInput(f"{readme} is no model card, and stays; choose another folder")
        formats[format](self.model, folder)
        self.tokenizer.save_pretrained(folder)
        write(readme, card)


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
    write(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def save_trained(model: PeftModel, path: Path) -> None:
    """Write the trained tensors to `path`, whole or not at all."""
    trained = model.trainable_parameters()
    with replacing(path) as file:
        save_file({name: p.detach().cpu().contiguous() for name, p in trained.items()}, file)


def load_trained(model: PeftModel, path: Path) -> None:
    """Copy the tensors of `path` into `model`, all or none. Raises `BadInput`."""
    with reading(str(path)):
        model.load_trained(load_file(path), path)


def load_finetuned(folder: str | Path, base: str | Path | None = None) -> Finetuned:
    """The classifier that a run left in `results/<experiment>/<method>-seed<k>`.

    `base` is the pretrained model (hub name or folder) where it is not at its recorded place.
    Raises `BadInput` for a checkpoint that is damaged, or of another base model.
    """
    folder = expanded(folder)
    with reading(f"the checkpoint {folder}", "expected results/<experiment>/<method>-seed<k>"):
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        source = str(expanded(base or about["base_model"]))
        config = load_config(source, about["label_names"])
        tokenizer = load_tokenizer(source, config, about["max_tokens"], about["truncation"])
        method = Method(about["method"], about["hyperparameters"])
        model = method.build(load_pretrained(source, config), about["pooling"])
        if model.fingerprint != about["fingerprint"]:
            raise BadInput(
                f"{source} is not the base model of {folder}, which was trained on "
                f"{about['base_model']}: its weights or shape differ; give the right one as base="
            )
        load_trained(model, folder / TENSORS)
    return Finetuned(model, tokenizer, folder)


def load_peft(
    folder: str | Path,
    base: str | Path,
    label_names: list[str],
    max_tokens: int = 512,
    truncation: str = "right",
) -> Finetuned:
    """A LoRA classifier that peft trained on `base` (hub name or folder) and saved to `folder`.

    Raises `BadInput` that names what is not supported.
    """
    source = str(expanded(base))
    config = load_config(source, label_names)
    tokenizer = load_tokenizer(source, config, max_tokens, truncation)
    return Finetuned(import_peft(load_pretrained(source, config), expanded(folder)), tokenizer)
