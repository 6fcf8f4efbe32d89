"""A fine-tuned classifier of texts, for use: from a run's checkpoint or from peft, and to others.

classify = load_finetuned("results/quick/lora-seed0")
classify(["A wonderful film."])                 [("positive", 0.97)]
classify.probabilities(["A wonderful film."])   [[0.03, 0.97]]
classify.export("for-peft", format="peft")
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

import hardware
from boundary import BadInput, expanded

from .base import PeftModel
from .checkpoint import load_checkpoint
from .export import export_peft, export_transformers, import_peft
from .loading import load_config, load_pretrained, load_tokenizer

AT_ONCE = 8192  # tokens of a micro-batch, padding included


class Finetuned:
    """Call it with a list of texts; it computes where its model is."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.label_names = list(model.pretrained.config.id2label.values())

    def __call__(self, texts: list[str]) -> list[tuple[str, float]]:
        """The label of each text and its probability."""
        best = self.probabilities(texts).max(1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.label_names[label], probability) for label, probability in pairs]

    @torch.no_grad()
    def probabilities(self, texts: list[str], progress: bool = False) -> Tensor:
        """(n, C), the labels in the order of `label_names`; of any number of texts.

        In micro-batches, the longest texts first, in the type that training computes in.
        """
        device = self.model.pretrained.device
        encoded = self.tokenizer(texts, truncation=True)["input_ids"] if texts else []
        ids = [torch.tensor(each) for each in encoded]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        found = torch.zeros(len(ids), len(self.label_names))
        bar = tqdm(total=len(ids), unit="text", disable=not progress)
        while order:
            count = max(1, AT_ONCE // len(ids[order[0]]))
            index, order = order[:count], order[count:]
            lengths = torch.tensor([len(ids[i]) for i in index])
            padded = pad_sequence([ids[i] for i in index], True, self.tokenizer.pad_token_id)
            mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
            with hardware.autocast(device):
                features = self.model.encode(padded.to(device), mask.to(device))
            found[index] = self.model.classify(features.float()).softmax(1).cpu()
            bar.update(len(index))
        bar.close()
        return found

    def export(self, folder: str | Path, format: str) -> None:
        """Write it as `format` "peft" (LoRA) or "transformers" (all but adapters; LoRA merged).

        The tokenizer goes with it, and truncates as in training. Raises `BadInput` for a method
        or a reading that the other library has no form for.
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
    Raises `BadInput` for a checkpoint that is damaged, of another version, or of another base
    model.
    """
    model, tokenizer = load_checkpoint(expanded(folder), str(expanded(base)) if base else None)
    return Finetuned(model, tokenizer)


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
