"""What users and files can do wrong: data, models and records, each damaged in one way.

A maker is called as make(folder, model, results), with an empty folder of its own, the tiny model's
and that of the results, and returns further arguments for the command.
"""

import json
import os
import shutil

import pandas as pd
import torch
from conftest import reviews_frame, tiny
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

NAN = float("nan")


def given(*arguments):
    """Arguments alone; {folder} in one stands for the case's own."""
    return lambda folder, model, results: [str(a).format(folder=folder) for a in arguments]


def both(*makers):
    """What several makers make, with all their arguments."""
    return lambda *places: [argument for make in makers for argument in make(*places)]


# ---------------------------------------------------------------------------- data


def csv(frame):
    return frame.to_csv(index=False)


def rows(n=60, **columns):
    """A frame of reviews, some columns replaced."""
    return reviews_frame(n).assign(**columns)


def labels(*values):
    """A frame of reviews with these labels in turn."""
    return rows(label=[values[i % len(values)] for i in range(60)])


def file(name, content):
    """A data file of a text, of bytes or of a frame."""

    def make(folder, model, results):
        (folder / name).write_bytes(_bytes(content, name))
        return ["--dataset", folder / name]

    return make


def _bytes(content, name):
    if isinstance(content, pd.DataFrame):
        if name.endswith(".parquet"):
            return content.to_parquet(index=False)
        jsonl = name.endswith(".jsonl")
        content = content.to_json(orient="records", lines=True) if jsonl else csv(content)
    return content.encode() if isinstance(content, str) else content


def folder_of(files):
    """A folder of data: content by path; a path that ends in a slash is a folder."""

    def make(folder, model, results):
        for path, content in files.items():
            place = folder / "data" / path
            (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                place.write_bytes(_bytes(content, path))
        return ["--dataset", folder / "data"]

    return make


def class_folders(more):
    """A folder like aclImdb's, and more files in it."""
    texts = {f"train/{'pos' if i % 2 else 'neg'}/{i}.txt": f"text {i}" for i in range(60)}
    return folder_of(texts | more)


# ---------------------------------------------------------------------------- files, changed


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def edit(path, **changes):
    """Set entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ---------------------------------------------------------------------------- models


def model(change):
    """A copy of the tiny model's folder, changed."""

    def make(folder, model, results):
        copy = shutil.copytree(model, folder / "model")
        change(copy)
        return ["--model", copy]

    return make


def config(**changes):
    return model(lambda folder: edit(folder / "config.json", **changes))


def written(name, content):
    """A model of whose files one holds this text."""
    return model(lambda folder: (folder / name).write_text(content))


def weights(change):
    return model(lambda folder: edit_tensors(folder, change))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def third_block(tensors):
    for name in [name for name in tensors if ".layer.1." in name]:
        tensors[name.replace(".layer.1.", ".layer.2.")] = tensors[name].clone()


def other_weights(folder):
    tiny("distilbert").float().save_pretrained(folder / "other")
    shutil.copy(folder / "other" / "model.safetensors", folder)


def pickled(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


class Intruder:
    """What a pickle could do to whoever opens it."""

    def __reduce__(self):
        return os.mkdir, ("intruded",)


def malicious(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.bias": Intruder()}, folder / "pytorch_model.bin")


def with_code(name, **entries):
    """A model with Python of its own, which one of its JSON files points to."""

    def change(folder):
        edit(folder / name, **entries)
        code = f"import os\nos.mkdir({str(folder / 'intruded')!r})\n"
        (folder / "own.py").write_text(code)

    return model(change)


def three_labels(folder):
    three = AutoConfig.from_pretrained(folder, num_labels=3)
    AutoModelForSequenceClassification.from_config(three).save_pretrained(folder)


def small_vocabulary(folder):
    edit(folder / "config.json", vocab_size=12)
    name = "bert.embeddings.word_embeddings.weight"
    edit_tensors(folder, lambda t: t.update({name: t[name][:12].clone()}))


def no_tokenizer(folder):
    for path in (*folder.glob("tokenizer*"), folder / "vocab.txt"):
        path.unlink()


# ---------------------------------------------------------------------------- records


def records(change, *arguments):
    """The earlier experiment's folder, changed, and asked for one more method."""

    def make(folder, model, results):
        change(results / "tiny")
        return arguments or ["--methods", "head", "lora", "adapter"]

    return make


def record(name, change, *arguments):
    """The same with one file changed, of which `change` is given the path."""
    return records(lambda folder: change(folder / name), *arguments)
