"""A fine-tuned classifier of texts, for use: from a run's checkpoint or from peft, and to others.

classify = load_finetuned("results/quick/checkpoints/lora-seed0")
classify(["A wonderful film."])         [("positive", 0.97)]
classify.export("for-peft", format="peft")
"""

from pathlib import Path

import torch

from .base import PeftModel, load_config, load_pretrained
from .checkpoint import load_checkpoint
from .export import export_peft, export_transformers, import_peft


class Finetuned:
    """Call it with a list of texts."""

    def __init__(self, model: PeftModel, tokenizer, label_names: list[str], max_tokens: int):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.label_names = label_names
        self.max_tokens = max_tokens

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> list[tuple[str, float]]:
        """The label of each text and its probability."""
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        logits = self.model(batch["input_ids"], batch["attention_mask"])
        best = logits.softmax(1).max(1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.label_names[label], probability) for label, probability in pairs]

    def export(self, folder: str | Path, format: str) -> None:
        """Write it as `format` "peft" (LoRA) or "transformers" (all but adapters; LoRA merged).

        Raises `ValueError` for a method that the other library has no form for.
        """
        if format == "peft":
            export_peft(self.model, Path(folder), self.model.pretrained.config._name_or_path)
        elif format == "transformers":
            export_transformers(self.model, self.tokenizer, Path(folder))
        else:
            raise ValueError(f"unknown format {format!r}; choose from peft, transformers")


def load_finetuned(folder: str | Path, base: str | Path | None = None) -> Finetuned:
    """The classifier that a run left in `results/<experiment>/checkpoints/<method>-seed<k>`.

    `base` is the pretrained model (hub name or folder) where it is not at its recorded place.
    Raises `ValueError` for a checkpoint that is damaged, newer than this package, or of another
    base model, and `OSError` where a file cannot be had.
    """
    model, tokenizer, about = load_checkpoint(Path(folder), str(base) if base else None)
    return Finetuned(model, tokenizer, about["label_names"], about["max_tokens"])


def load_peft(
    folder: str | Path, base: str | Path, label_names: list[str], max_tokens: int = 512
) -> Finetuned:
    """A LoRA classifier that peft trained on `base` (hub name or folder) and saved to `folder`.

    Raises `ValueError` that names what is not supported.
    """
    config, tokenizer = load_config(str(base), label_names)
    model = import_peft(load_pretrained(str(base), config), Path(folder))
    return Finetuned(model, tokenizer, label_names, max_tokens)
