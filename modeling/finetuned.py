"""Load the classifier that a run, or `--final`, has saved, and use it on new texts.

    classify = load_finetuned("results/quick/lora-seed0")
    classify("A wonderful film.")                  ("positive", 0.97)
    classify(["A wonderful film.", "Dull."])       [("positive", 0.97), ("negative", 0.99)]
    classify.probabilities("A wonderful film.")    [[0.03, 0.97]]
    classify.export("for-others", format="onnx")

Texts are cleaned and tokenised as in training, and computed as in evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

import hardware
from boundary import BadInput, expanded, reading
from data_utils import clean, tokenise
from records import ANEW

from .base import PeftModel
from .baseline import PROBE, TFIDF, ProbeClassifier, TfidfClassifier
from .checkpoint import TENSORS, About, checkpoint_folder, load_baseline, load_trained, read_about
from .export import export
from .fast import use_fast_attention
from .inference import features, predict, tokens_at_once
from .loading import load_encoder
from .methods import METHODS

AT_ONCE = 512  # texts that are tokenised and computed together, those of similar length

Texts = str | Sequence[str] | pd.Series | pd.Index | np.ndarray


@dataclass(frozen=True, eq=False)
class EncoderClassifier:
    """A fine-tuned encoder; or a frozen one, and a probe on its features."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    probe: ProbeClassifier | None = None

    def log_probabilities(self, texts: list[str]) -> Tensor:
        """Log-probabilities of n clean texts, (n, C) on the CPU; NaN for a text without tokens."""
        device = self.model.pretrained.device
        split = tokenise(texts, None, self.tokenizer)
        index = np.flatnonzero(split.lengths)
        split = split.take(index).to(device)
        most = tokens_at_once(self.tokenizer.model_max_length, device, training=False)
        classes = self.model.pretrained.config.num_labels
        logs = torch.full((len(texts), classes), torch.nan)
        if self.probe:
            logs[index] = self.probe.log_probabilities(features(self.model, split, most))
        else:
            logs[index] = predict(self.model, split, most).log_softmax(1)
        if logs[index].isnan().any():
            raise BadInput("the classifier computes no numbers for a text; train it again")
        return logs


@dataclass(frozen=True, eq=False)
class Combination:
    """The mean of its parts' log-probabilities, renormalised: a sum would be too sure."""

    parts: list[EncoderClassifier | TfidfClassifier]

    def log_probabilities(self, texts: list[str]) -> Tensor:
        """Log-probabilities of n clean texts, (n, C)."""
        logs = torch.stack([part.log_probabilities(texts) for part in self.parts])
        return logs.mean(0).log_softmax(1)


class Finetuned:
    """A classifier to call with one text or several; it computes on its model's device."""

    def __init__(self, classifier: EncoderClassifier | TfidfClassifier | Combination, about: About):
        self.classifier, self.about, self.label_names = classifier, about, about.label_names

    def __call__(self, texts: Texts) -> tuple[str, float] | list[tuple[str, float]]:
        """The label and its probability: a pair for one text, a list of pairs for several."""
        pairs = self.best(self.probabilities(texts))
        return pairs[0] if isinstance(texts, str) else pairs

    def best(self, probabilities: Tensor) -> list[tuple[str, float]]:
        """(n, C) -> the most probable label of each text, and its probability.

        ("", nan) for an empty text, and for a text of which the tokenizer makes no token.
        """
        values, labels = probabilities.max(1)
        return [
            (self.label_names[label] if value == value else "", value)
            for value, label in zip(values.tolist(), labels.tolist(), strict=True)
        ]

    def probabilities(self, texts: Texts, advance: Callable[[int], object] = int) -> Tensor:
        """The probability of each label, (n, C), in the order of `label_names`; for any n.

        The row of an empty text, which training leaves out, is NaN. `advance` is called with the
        number of texts just done. Raises `BadInput` for a value that is no text; None and NaN are
        empty texts.
        """
        texts = [clean(text) for text in _listed(texts)]
        longest_first = np.argsort([-len(text) for text in texts], kind="stable")
        probabilities = torch.zeros(len(texts), len(self.label_names))
        for start in range(0, len(texts), AT_ONCE):
            index = longest_first[start : start + AT_ONCE]
            logs = self.classifier.log_probabilities([texts[i] for i in index])
            probabilities[index] = logs.exp()
            advance(len(index))
        probabilities[torch.tensor([not text for text in texts], dtype=torch.bool)] = torch.nan
        return probabilities

    def export(self, folder: str | Path, format: str = "onnx") -> None:
        """Write it as "onnx" or "transformers" to a new folder, with the code that uses it.

        Raises `BadInput` where the format has no form for it, or the folder is not empty.
        """
        export(self, expanded(folder), format)


def _listed(texts) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    texts = np.atleast_1d(texts) if isinstance(texts, np.ndarray) else texts
    if isinstance(texts, Sequence | pd.Series | pd.Index | np.ndarray):
        texts = ["" if pd.api.types.is_scalar(text) and pd.isna(text) else text for text in texts]
    else:
        texts = [texts]
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            expected = "expected a text, or a list, column or array of texts"
            raise BadInput(f"text {place} is {type(text).__name__}; {expected}")
    return texts


# ---------------------------------------------------------------------------- loading


def load_finetuned(folder: str | Path, base: str | Path | None = None) -> Finetuned:
    """The classifier in `results/<experiment>/final` or `results/<experiment>/<method>-seed<k>`.

    `base` is the encoder (hub name or folder) where it is not at its recorded place. The model is
    put on the fastest device. Raises `BadInput` for a checkpoint that is damaged, or of another
    encoder.
    """
    folder = checkpoint_folder(expanded(folder))
    about = read_about(folder)
    if not about.parts:
        return Finetuned(_classifier(folder, about, base), about)
    parts = [load_finetuned(part, base) for part in about.parts_in(folder)]
    if len(parts) == 1:
        return parts[0]
    return Finetuned(Combination([part.classifier for part in parts]), about)


def _classifier(folder, about, base):
    baseline = load_baseline(folder, about) if about.method in (TFIDF, PROBE) else None
    if about.method == TFIDF:
        return baseline
    name = str(base or about.base_model)
    with reading(f"the checkpoint {folder}", ANEW):
        try:
            encoder = load_encoder(name, about.label_names, about.max_tokens, about.truncation)
        except BadInput as error:
            cause = str(error).partition("; ")[0]
            line = f"the encoder of {folder} cannot be loaded: {cause}"
            raise BadInput(f"{line}; give its place as base (--base)") from error
        if encoder.digest != about.encoder_digest:
            line = f"{name} is not the encoder that {folder} was trained with"
            parts = "its config, tokenizer or weights differ"
            raise BadInput(f"{line}: {parts}; give the right one as base")
        values = about.hyperparameters.items()  # JSON has no tuples
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in values}
        method = METHODS["head" if baseline else about.method]
        model = method(encoder.pretrained, about.pooling, **values)
        if not baseline:
            load_trained(model, folder / TENSORS)
    device = hardware.choose_device()
    use_fast_attention(model.eval().to(device).pretrained, device)
    return EncoderClassifier(model, encoder.tokenizer, baseline)
