"""A fine-tuned classifier of texts, for use: from a run's checkpoint or from peft, and to others.

classify = load_finetuned("results/quick/lora-seed0")
classify(["A wonderful film."])         [("positive", 0.97)]
classify.export("for-peft", format="peft")
"""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from boundary import BadInput, expanded

from .base import PeftModel
from .checkpoint import load_checkpoint
from .export import export_peft, export_transformers, import_peft
from .loading import load_config, load_pretrained, load_tokenizer


class Finetuned:
    """Call it with a list of texts."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase):
        self.model = model.eval()
        self.tokenizer = tokenizer

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> list[tuple[str, float]]:
        """The label of each text and its probability."""
        batch = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        logits = self.model(batch["input_ids"], batch["attention_mask"])
        best = logits.softmax(1).max(1)
        labels = self.model.pretrained.config.id2label
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(labels[label], probability) for label, probability in pairs]

    def export(self, folder: str | Path, format: str) -> None:
        """Write it as `format` "peft" (LoRA) or "transformers" (all but adapters; LoRA merged).

        The tokenizer goes with it, and truncates as in training. Raises `BadInput` for a method
        that the other library has no form for.
        """
        formats = {"peft": export_peft, "transformers": export_transformers}
        if format not in formats:
            raise BadInput(f"unknown format {format!r}; choose from {', '.join(formats)}")
        folder = expanded(folder)
        formats[format](self.model, folder)
        self.tokenizer.save_pretrained(folder)


def load_finetuned(folder: str | Path, base: str | Path | None = None) -> Finetuned:
    """The classifier that a run left in `results/<experiment>/<method>-seed<k>`.

    `base` is the pretrained model (hub name or folder) where it is not at its recorded place.
    Raises `BadInput` for a checkpoint that is damaged, newer than this package, or of another
    base model.
    """
    return Finetuned(*load_checkpoint(expanded(folder), str(expanded(base)) if base else None))


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
