"""Files changed at random: refused in one line or used, and nothing else.

Bytes are flipped, files truncated, entries removed or replaced by what nobody expects. Whatever a
file becomes, the command ends with status 0, 1 or 2 and the one line that goes with it. The changes
are always the same ones; a failure names its number. More of them, or others:

    FUZZ_SEED=1 FUZZ_TIMES=5 pytest tests/test_fuzz.py
"""

import json
import os
import shutil
from typing import NamedTuple

import numpy as np
import pytest
from conftest import reviews_frame
from hostile import begin

import finetuning
from boundary import BadInput, refuse
from modeling import load_finetuned

SEED, TIMES = int(os.environ.get("FUZZ_SEED", 0)), float(os.environ.get("FUZZ_TIMES", 0.35))
ODD = [None, True, False, 0, 1, -1, 7, 1.5, 10**6, 2**31, 2**63, 10**40, 1e300, float("nan")]
ODD += ["", "x", "nan", "🎬", "../x", "a\nb", "x" * 10**5, [], {}, [[]], [0], ["x"], {"x": 1}]


class Target(NamedTuple):
    """A file, and how often it is changed for FUZZ_TIMES=1."""

    place: str  # its folder: model, data, results/...; all are copied anew
    name: str
    times: int


TARGETS = [
    Target("model", "config.json", 35),
    Target("model", "tokenizer.json", 30),
    Target("model", "tokenizer_config.json", 20),
    Target("model", "model.safetensors", 12),
    Target("data", "train.csv", 15),
    Target("data", "train.jsonl", 15),
    Target("results/tiny/lora-seed0", "checkpoint.json", 25),
    Target("results/tiny/lora-seed0", "trained.safetensors", 10),
]


# ---------------------------------------------------------------------------- changes


def change(data, name, random):
    """A file's bytes, changed in one of several ways; and in words, how."""
    ways = [flip, truncate]
    ways += [change_json] * 6 if name.endswith(".json") else []
    ways += [change_line] * 6 if name.endswith("jsonl") else []
    ways += [change_cell] * 4 if name.endswith(".csv") else []
    ways += [change_header] * 2 if name.endswith(".safetensors") else []
    return ways[random.integers(len(ways))](data, random)


def flip(data, random):
    places = random.integers(len(data), size=random.integers(1, 5))
    changed = bytearray(data)
    for place in places:
        changed[place] ^= int(random.integers(1, 256))
    return bytes(changed), f"bytes {places} flipped"


def truncate(data, random):
    end = int(random.integers(len(data)))
    return data[:end], f"truncated to {end} bytes"


def change_json(data, random):
    """One entry, at any depth, removed or replaced."""
    root = {"": json.loads(data)}
    places = list(entries(root, ""))
    path, holder, key = places[random.integers(len(places))]
    odd = ODD[random.integers(len(ODD))]
    if key != "" and random.random() < 0.3:
        del holder[key]
        return json.dumps(root[""]).encode(), f"{path} removed"
    holder[key] = odd
    return json.dumps(root[""]).encode(), f"{path} = {odd!r:.40}"


def entries(holder, path):
    """The path, holder and key of each entry within."""
    for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
        yield f"{path}/{key}", holder, key
        if isinstance(value, dict | list):
            yield from entries(value, f"{path}/{key}")


def change_line(data, random):
    """One line of JSON changed, or in each line the same entry."""
    lines = data.splitlines()
    number = int(random.integers(len(lines)))
    lines[number], how = change_json(lines[number], random)
    return b"\n".join(lines), f"line {number}: {how}"


def change_cell(data, random):
    """One cell of a table replaced, a column renamed or a row doubled."""
    lines = data.decode().splitlines()
    row = int(random.integers(len(lines)))
    if random.random() < 0.2:
        return "\n".join([*lines, lines[row]]).encode(), f"row {row} twice"
    cells = lines[row].split(",")
    column = int(random.integers(len(cells)))
    cells[column] = odd = str(ODD[random.integers(len(ODD))])
    lines[row] = ",".join(cells)
    return "\n".join(lines).encode(), f"row {row}, column {column} = {odd!r:.40}"


def change_header(data, random):
    """The JSON in front of the tensors changed, with its length put right."""
    length = int.from_bytes(data[:8], "little")
    header, how = change_json(data[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + data[8 + length :], f"header: {how}"


# ---------------------------------------------------------------------------- what comes of them


@pytest.fixture(scope="module")
def sources(model_folder, tmp_path_factory):
    """A folder with all that is changed, in folders of its own, and the command's arguments."""
    root = tmp_path_factory.mktemp("fuzz")
    arguments = begin(root, model_folder)
    shutil.copytree(model_folder, root / "model")
    (root / "data").mkdir()
    reviews_frame(40).to_csv(root / "data" / "train.csv", index=False)
    reviews_frame(40).to_json(root / "data" / "train.jsonl", orient="records", lines=True)
    return root, arguments


def start(target, place, root, fixed):
    """Read what has been changed, as a user does; the exit status."""
    if target.place in ("model", "data"):
        path = place if target.place == "model" else place / target.name
        option = "--model" if target.place == "model" else "--dataset"
        arguments = [*fixed, "--methods", "head", option, path, "--results", place / "results"]
        return finetuning.main([str(argument) for argument in arguments])
    try:
        load_finetuned(place)(["a good film"])
    except BadInput as error:
        return refuse(error, [])
    return 0


def fault(status, error):
    """What is wrong with an end, or None."""
    lines = error.splitlines()
    starts = {0: [], 1: ["head seed 0 failed: "], 2: ["error: "]}[status]
    if len(lines) != len(starts) or not all(map(str.startswith, lines, starts)):
        return f"status {status}, {len(lines)} lines: {error[:600]}"
    return None


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.place}/{target.name}")
def test_a_file_changed_at_random_is_refused_in_one_line_or_used(
    target, sources, tmp_path, capfd, without_figures
):
    root, fixed = sources
    for number in range(round(target.times * TIMES)):
        place = shutil.copytree(root / target.place, tmp_path / f"{number}")
        random = np.random.default_rng([SEED, number, *f"{target.place}/{target.name}".encode()])
        data, how = change((place / target.name).read_bytes(), target.name, random)
        (place / target.name).write_bytes(data)
        capfd.readouterr()
        wrong = fault(start(target, place, root, fixed), capfd.readouterr().err)
        assert not wrong, f"FUZZ_SEED={SEED} {number}: {how}: {wrong}"
        shutil.rmtree(place)
