"""The model card beside an exported model: README.md, as the Hugging Face hub reads it.

It is made to be published: it holds no path of this machine, and what comes from outside (labels,
names) shows as text, whatever markup is in it.
"""

import html
import re
from pathlib import Path, PureWindowsPath

from huggingface_hub import ModelCardData

from data_utils import ENCODERS
from data_utils.files import READERS
from records import RunRecord

CODE = {
    "onnx": r"""
import json
import re

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession("model.onnx")
tokenizer = Tokenizer.from_file("tokenizer.json")  # it truncates and pads
with open("config.json") as file:
    labels = json.load(file)["id2label"]

def classify(texts):
    texts = [re.sub(r"<br\s*/?>", " ", text).strip() for text in texts]  # as in training
    encoded = tokenizer.encode_batch(texts)
    names = {"input_ids": "ids", "attention_mask": "attention_mask"}
    inputs = {name: np.array([getattr(e, n) for e in encoded]) for name, n in names.items()}
    (probabilities,) = session.run(None, inputs)  # (texts, labels)
    return [(labels[str(row.argmax())], float(row.max())) for row in probabilities]

print(classify(["A text."]))
""",
    "peft": """
import peft
import transformers

base = transformers.AutoModelForSequenceClassification.from_pretrained(
    {base!r}, id2label={labels!r}, pad_token_id={pad}
)
model = peft.PeftModel.from_pretrained(base, ".")
tokenizer = transformers.AutoTokenizer.from_pretrained(".")
""",
    "transformers": """
import transformers

classify = transformers.pipeline("text-classification", model=".", truncation=True)
print(classify(["A text."]))
""",
}


def model_card(finetuned, format: str) -> str:
    """The text of README.md for a `Finetuned` exported as "onnx", "peft" or "transformers".

    Raises `BadInput` where the run.json of its run is damaged.
    """
    encoder, about = finetuned.classifier, finetuned.about
    config, base = encoder.model.pretrained.config, published(about.base_model)
    end = {"left": "last", "right": "first"}[about.truncation]
    rows = {
        "Base model": base,
        "Method": about.method,
        "Hyperparameters": ", ".join(f"{k} = {v}" for k, v in about.hyperparameters.items()),
        "Pooling": about.pooling,
        "Labels": ", ".join(about.label_names),
        "Length": f"at most {about.max_tokens:,} tokens; a longer text keeps its {end}",
        **_of_the_run(finetuned.folder),
        "Licence": "not chosen; those of the base model and of the data set limit it",
    }
    labels = dict(enumerate(about.label_names))
    code = CODE[format]
    if format == "peft":
        code = code.format(base=base, labels=labels, pad=config.pad_token_id)
    data = ModelCardData(
        base_model=base,
        library_name=format,
        pipeline_tag="text-classification",
        tags=[about.method, "parameter-efficient-fine-tuning"],
    )
    lines = "\n".join(f"- **{row}**: {escaped(str(text))}" for row, text in rows.items() if text)
    title = f"# {escaped(base)}, fine-tuned with {escaped(about.method)}"
    return f"---\n{data.to_yaml()}\n---\n\n{title}\n\n{lines}\n\n```python\n{code.strip()}\n```\n"


def _of_the_run(folder):
    file = folder and folder / "run.json"
    if not file or not file.exists():
        return {}
    record = RunRecord.read(file)
    rate, accuracy = record.learning_rate, record.scores.get("test_accuracy")
    return {
        "Data set": _data_set(record.data_set),
        "Training": "" if rate is None else f"learning rate {rate:g}, seed {record.seed}",
        "Test accuracy": "" if accuracy is None else f"{accuracy:.1%}, on its test texts",
    }


def published(base: str) -> str:
    """An encoder's name on the hub; of a local folder its last name alone."""
    if base in ENCODERS:
        return f"sentence-transformers/{ENCODERS[base]}"
    return Path(base).name if Path(base).is_absolute() or Path(base).is_dir() else base


def _data_set(name):
    """The name of a data set on the hub, or that of the file or folder without its path."""
    is_hub_name = re.fullmatch(r"[\w.-]+/[\w.:-]+", name) and not Path(name).exists()
    if is_hub_name and Path(name).suffix.lower() not in READERS:
        return name
    return PureWindowsPath(name).name  # either slash divides


def escaped(text: str) -> str:
    """A line of Markdown that shows `text` as it is."""
    text = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", " ".join(text.split()))
    return html.escape(text, quote=False)
