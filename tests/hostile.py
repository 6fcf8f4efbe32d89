"""What users and files can do wrong: data, models and records, each damaged in one way.

A maker is called as make(folder, model, results), with an empty folder of its own, the tiny model's
and that of the results, and returns further arguments for the command.
"""

import json
import os
import shutil

import torch
from conftest import reviews_frame
from safetensors.torch import load_file, save_file


def given(*arguments):
    """Arguments alone."""
    return lambda folder, model, results: arguments


def csv(**columns):
    """A CSV file of reviews, some columns replaced."""
    return reviews_frame(60).assign(**columns).to_csv(index=False)


def data(files, name, *more):
    """Data files, content by name; the command gets the one called `name`, and more arguments."""

    def make(folder, model, results):
        for path, content in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(content, newline="")
        return ["--dataset", folder / name, *more]

    return make


def nameless(path):
    """The constant METHODS is gone from a JSON file."""
    path.write_text(path.read_text().replace('"methods":', '"others":'))


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def edit(path, **changes):
    """Set entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def model(change):
    """A copy of the tiny model's folder, changed."""

    def make(folder, model, results):
        copy = shutil.copytree(model, folder / "model")
        change(copy)
        return ["--model", copy]

    return make


def renamed(name):
    """Without config.json: the file has another name."""
    return model(lambda folder: (folder / "config.json").rename(folder / name))


def config(**changes):
    return model(lambda folder: edit(folder / "config.json", **changes))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def infinite(folder):
    edit_tensors(folder, lambda tensors: tensors["classifier.bias"].div_(0))


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


def small_vocabulary(folder):
    edit(folder / "config.json", vocab_size=12)
    name = "bert.embeddings.word_embeddings.weight"
    edit_tensors(folder, lambda t: t.update({name: t[name][:12].clone()}))


def no_tokenizer(folder):
    for path in (*folder.glob("tokenizer*"), folder / "vocab.txt"):
        path.unlink()


def record(name, change, *arguments):
    """A file of the earlier experiment changed, which is then asked for one more method."""

    def make(folder, model, results):
        change(results / "tiny" / name)
        return arguments or ["--methods", "head", "lora", "adapter"]

    return make
