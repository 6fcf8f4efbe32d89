"""A fine-tuned classifier as files that other programs run: ONNX and transformers.

    onnx            model.onnx, from token ids to probabilities, and tokenizer.json; every method
                    around an encoder, every pooling, and the probe
    transformers    files that `pipeline("text-classification", model=folder)` loads, updates merged

transformers has a form for the pooling "first" alone, which its own classifiers compute. The
folder's README.md has code that uses the files. No file names a path of this machine.
"""

import copy
import json
import logging
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import ModelCardData
from torch import Tensor, nn

from boundary import BadInput, replacing, writing
from data_utils import ENCODERS

from .base import PeftModel
from .fast import use_fast_attention
from .merging import merge
from .methods import method_of
from .reft import LoReFT

USE_ONNX = 'use format="onnx"'
CODE = {  # for README.md
    "onnx": r"""
import json
import os
import re
import unicodedata

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else onnxruntime reports to Microsoft

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession("model.onnx")
tokenizer = Tokenizer.from_file("tokenizer.json")  # it truncates and pads
labels = json.load(open("config.json"))["id2label"]

def classify(texts):
    texts = [re.sub(r"<br\s*/?>", " ", text) for text in texts]  # as in training
    texts = [unicodedata.normalize("NFC", text).strip() for text in texts]
    encoded = tokenizer.encode_batch(texts)
    found = [("", float("nan"))] * len(texts)  # of empty texts
    rows = [i for i, e in enumerate(encoded) if texts[i] and any(e.attention_mask)]
    if rows:
        ids, mask = np.stack([(encoded[i].ids, encoded[i].attention_mask) for i in rows], 1)
        (probabilities,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        for i, row in zip(rows, probabilities):  # (texts, labels)
            found[i] = labels[str(row.argmax())], float(row.max())
    return found

print(classify(["A text."]))
""",
    "transformers": r"""
import re
import unicodedata

import transformers

classify = transformers.pipeline("text-classification", model=".", truncation=True)
text = re.sub(r"<br\s*/?>", " ", "A text.")  # as in training
print(classify(unicodedata.normalize("NFC", text).strip()))
""",
}


def export(finetuned, folder: Path, format: str) -> None:
    """Write a `Finetuned` to a new or empty folder, whole or not at all. Raises `BadInput`."""
    formats = {"onnx": export_onnx, "transformers": export_transformers}
    if format not in formats:
        raise BadInput(f"unknown format {format!r}; choose from {', '.join(formats)}")
    encoder, about = finetuned.classifier, finetuned.about
    if not hasattr(encoder, "model"):
        remedy = "use its checkpoint, by load_finetuned or modeling.predict"
        raise BadInput(f"{about.method} has no form for other programs; {remedy}")
    if format == "transformers" and (encoder.probe or encoder.model.pooling != "first"):
        pooling = f"the pooling {encoder.model.pooling!r}, only for 'first'"
        kind = "a probe" if encoder.probe else pooling
        raise BadInput(f"{format} has no form for {kind}; {USE_ONNX}")
    last, pad = encoder.tokenizer("A text.")["input_ids"][-1], encoder.tokenizer.pad_token_id
    if format == "transformers" and last == pad:  # it seeks the last token that is none
        raise BadInput(f"{format} would take a text's last token for padding; {USE_ONNX}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there and not empty; choose another folder")
    base = published(about.base_model)
    about_hub = {"library_name": format, "pipeline_tag": "text-classification"}
    card = ModelCardData(base_model=base, **about_hub).to_yaml()
    title = f"# {base}, fine-tuned with {about.method}"
    readme = f"---\n{card}\n---\n\n{title}\n\n```python\n{CODE[format].strip()}\n```\n"
    with writing(folder), replacing(folder) as new:
        if folder.exists():
            folder.rmdir()  # it is empty; Windows would not replace it
        new.mkdir()
        formats[format](encoder, new)
        (new / "README.md").write_text(readme, encoding="utf-8")
        for file in new.iterdir():  # some libraries write files that only their user may read
            file.chmod((new / "README.md").stat().st_mode)


def published(base: str) -> str:
    """An encoder's name on the hub; for a local folder, the folder's name without its path."""
    if base in ENCODERS:
        return f"sentence-transformers/{ENCODERS[base]}"
    return Path(base).name if Path(base).is_absolute() or Path(base).is_dir() else base


# ---------------------------------------------------------------------------- ONNX


class Graph(nn.Module):
    """Token ids and their mask (N, T) -> probabilities (N, C)."""

    def __init__(self, encoder):
        super().__init__()
        self.model, self.linear = plain_copy(encoder.model), None
        if encoder.probe:
            weight, bias = (torch.from_numpy(a) for a in (encoder.probe.weight, encoder.probe.bias))
            self.linear = nn.Linear(*weight.T.shape)
            self.linear.load_state_dict({"weight": weight, "bias": bias})
        for layer in self.model.modules():
            if isinstance(layer, LoReFT):  # ONNX has no QR decomposition: R is a constant
                layer.R = partial(torch.clone, layer.R().detach())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The probabilities (N, C), as `EncoderClassifier` computes them, in float32."""
        features = self.model.encode(input_ids, attention_mask)
        if self.linear:
            return self.linear(features.flatten(1)).softmax(1)
        return self.model.classify(features).softmax(1)


def export_onnx(encoder, folder: Path) -> None:
    """Write model.onnx (any number and length of texts), tokenizer.json, config.json with labels.

    Raises `BadInput` where the packages for ONNX are not installed.
    """
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise BadInput("ONNX needs two more packages: pip install -r requirements-onnx.txt")
    graph = Graph(encoder).eval()
    ids = torch.arange(5, 19).view(2, 7)  # any ids, for texts of 7 and 5 tokens
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    sizes = {0: "texts", 1: "tokens"}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # no lines on missing packages
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            graph,
            (ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=["probabilities"],
            dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
            verbose=False,
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with this machine's paths
    program.save(folder / "model.onnx")  # weights of more than 1.5 GB are a file beside it
    encoder.tokenizer([""], truncation=True, padding=True)  # saved with the last call's settings
    encoder.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    config = graph.model.pretrained.config
    config.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    written["id2label"] = config.id2label  # save_pretrained leaves out LABEL_0, LABEL_1
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def plain_copy(model: PeftModel) -> PeftModel:
    """A copy on the CPU, updates merged where the method allows; its config names no folder."""
    plain = copy.deepcopy(model).cpu().eval()
    merge(plain)
    use_fast_attention(plain.pretrained, torch.device("cpu"))
    plain.pretrained.config._name_or_path = ""
    return plain


# ---------------------------------------------------------------------------- transformers


def export_transformers(encoder, folder: Path) -> None:
    """Write a folder that transformers loads without this package.

    Raises `BadInput` for a method that adds weights to the architecture, such as adapters, or does
    more than its weights say.
    """
    merged = plain_copy(encoder.model).pretrained
    with torch.device("meta"):
        expected = type(merged)(merged.config).state_dict().keys()
    if merged.state_dict().keys() != expected:
        added = f"the weights that {method_of(encoder.model)} adds"
        raise BadInput(f"transformers has no class with {added}; {USE_ONNX}")
    config = merged.config
    ids = torch.tensor([[i for i in range(config.vocab_size) if i != config.pad_token_id][:16]])
    with torch.no_grad():
        ours = copy.deepcopy(encoder.model).cpu().eval()(ids, torch.ones_like(ids))
        theirs = merged(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        more = f"{method_of(encoder.model)} does more than its weights say"
        raise BadInput(f"{more}: transformers would give other logits; {USE_ONNX}")
    merged.config.problem_type = "single_label_classification"  # not the base model's own
    merged.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
