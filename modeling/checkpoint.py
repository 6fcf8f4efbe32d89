"""The files of a run's classifier: checkpoint.json, and the trained tensors as safetensors.

    checkpoint.json       the method and its hyperparameters, the pooling, the labels, the column of
                          the texts; the encoder by name, and its digest
    trained.safetensors   the tensors that a method trains, head included; a baseline's weights
    words.json            the vocabulary of TF-IDF

The frozen weights are the encoder's. A bundled encoder is recorded by its short name (`minilm`), so
that the checkpoint loads in another environment; a folder by its path. A combination (`lora+tfidf`)
has no tensors: `parts` are the folders of its parts, relative to its own. The folder of a final
model has `parts` too: its one part is the run that trained it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from boundary import BadInput, reading, replacing, write
from data_utils import ENCODERS
from records import ANEW

from .base import PeftModel
from .baseline import PROBE, TFIDF, VECTORIZER, ProbeClassifier, TfidfClassifier
from .methods import Method, method_of

TENSORS, ABOUT, WORDS = "trained.safetensors", "checkpoint.json", "words.json"


class About(BaseModel):
    """The content of checkpoint.json."""

    model_config = ConfigDict(frozen=True)

    method: str  # its name; for a combination as one types it, "lora+tfidf"
    hyperparameters: dict[str, Any] = {}
    pooling: str | None = None
    base_model: str | None = None  # "minilm", a hub name or a folder
    encoder_digest: str | None = None
    label_names: list[str] = []  # a combination takes them from its parts
    max_tokens: int | None = None
    truncation: str | None = None  # the side on which longer texts lose tokens
    text_column: str | None = None  # of the training texts
    parts: list[str] = []

    def parts_in(self, folder: Path) -> list[Path]:
        """The folders of the parts of a checkpoint in `folder`."""
        return [(folder / part).resolve() for part in self.parts]


def save_checkpoint(
    classifier: PeftModel | ProbeClassifier | TfidfClassifier, folder: Path, about: dict[str, Any]
) -> None:
    """Write `classifier` to `folder`, so that `load_finetuned` brings it back.

    `about` has base_model, encoder_digest, label_names, max_tokens, truncation, text_column, and
    for a probe the pooling.
    """
    base = about["base_model"]
    if base not in ENCODERS and Path(base).is_dir():
        about = about | {"base_model": str(Path(base).resolve())}
    if isinstance(classifier, PeftModel):
        tensors = classifier.trainable_parameters()
        choice = {"hyperparameters": classifier.hyperparameters, "pooling": classifier.pooling}
        about = about | choice | {"method": method_of(classifier)}
    else:
        tensors = {name: torch.from_numpy(getattr(classifier, name)) for name in ("weight", "bias")}
        about = about | {"method": PROBE}
    if isinstance(classifier, TfidfClassifier):  # it has no encoder
        tensors["idf"] = torch.from_numpy(classifier.words.idf_)
        words = classifier.words.get_feature_names_out().tolist()
        write(folder / WORDS, json.dumps(words, ensure_ascii=False) + "\n")
        about = {name: about[name] for name in ("label_names", "text_column")} | {"method": TFIDF}
    save_tensors(tensors, folder / TENSORS)
    _write_about(folder, **about)


def save_combination(folder: Path, method: Method, parts: Sequence[Path]) -> None:
    """Write to `folder` a checkpoint of `method` that is, or combines, the ones in `parts`."""
    parts = [Path(part).as_posix() for part in parts]
    _write_about(folder, method=method.text, parts=parts)


def _write_about(folder, **values):
    about = About(**values).model_dump(exclude_defaults=True)
    write(folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def read_about(folder: Path) -> About:
    """The content of checkpoint.json. Raises `BadInput` where it is damaged."""
    path = folder / ABOUT
    with reading(str(path), ANEW):
        about = About(**json.loads(path.read_text(encoding="utf-8")))
        if about.parts:
            first = read_about(checkpoint_folder(about.parts_in(folder)[0]))
            shared = {"label_names": first.label_names, "text_column": first.text_column}
            about = about.model_copy(update=shared)
    return about


def checkpoint_folder(folder: Path) -> Path:
    """`folder`, or the folder `final` in it. Raises `BadInput` where neither has a checkpoint."""
    for place in (folder, folder / "final"):
        if (place / ABOUT).is_file():
            return place
    if runs := sorted(path.parent.name for path in folder.glob(f"*/{ABOUT}")):
        raise BadInput(f"{folder} has no final model; give one of its runs: {', '.join(runs)}")
    expected = "expected the folder of a run that has finished, or of a final model"
    raise BadInput(f"{folder} has no {ABOUT}; {expected}")


# ---------------------------------------------------------------------------- tensors


def save_trained(model: PeftModel, path: Path) -> None:
    """Write the trained tensors to `path`, whole or not at all."""
    save_tensors(model.trainable_parameters(), path)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to `path` as safetensors, whole or not at all."""
    with replacing(path) as file:
        tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        file.write_bytes(as_bytes(tensors))  # on a full disk save_file has its own error


def load_trained(model: PeftModel, path: Path) -> None:
    """Copy the tensors of `path` into `model`, all or none. Raises `BadInput`."""
    with reading(str(path), ANEW):
        model.load_trained(load_file(path), path)


def load_baseline(folder: Path, about: About) -> ProbeClassifier | TfidfClassifier:
    """The baseline in `folder`. Raises `BadInput` where a file is damaged."""
    with reading(str(folder / TENSORS), ANEW):
        tensors = load_file(folder / TENSORS).items()
        arrays = {name: tensor.numpy().astype(float) for name, tensor in tensors}  # a copy
        weight, bias = arrays["weight"], arrays["bias"]
    if about.method == PROBE:
        return ProbeClassifier(weight, bias)
    with reading(str(folder / WORDS), ANEW):
        vocabulary = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        words = TfidfVectorizer(**VECTORIZER, vocabulary=vocabulary)
        words.idf_ = arrays["idf"]
    return TfidfClassifier(words, weight, bias)
