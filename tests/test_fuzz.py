"""Models and data changed at random: refused in one line or used, and nothing else.

Bytes are flipped, files truncated, entries removed or replaced by what nobody expects. Whatever a
file becomes, the command ends with status 0, 1 or 2 and the one line that goes with it. The changes
are always the same ones; a failure names its number. More of them, or others:

    FUZZ_SEED=1 FUZZ_TIMES=5 pytest tests/test_fuzz.py
"""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import reviews_frame

import finetuning

SEED, TIMES = int(os.environ.get("FUZZ_SEED", 0)), float(os.environ.get("FUZZ_TIMES", 0.35))
ODD = [None, True, False, 0, 1, -1, 7, 1.5, 10**6, 2**31, 2**63, 10**40, 1e300, float("nan")]
ODD += ["", "x", "nan", "🎬", "../x", "a\nb", "x" * 10**5, [], {}, [[]], [0], ["x"], {"x": 1}]
TARGETS = {  # how often a file is changed for FUZZ_TIMES=1
    "config.json": 35,
    "tokenizer.json": 30,
    "tokenizer_config.json": 20,
    "model.safetensors": 12,
    "train.csv": 15,
    "train.json": 15,
}
LINES = {0: [], 1: ["head seed 0 failed: "], 2: ["error: "]}  # on standard error, by exit status


def change(data, name, random):
    """A file's bytes, changed in one of several ways; and in words, how."""
    ways = [flip, truncate]
    ways += [change_json] * 6 if name.endswith(".json") else []
    ways += [change_cell] * 4 if name.endswith(".csv") else []
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


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_changed_at_random_is_refused_in_one_line_or_used(
    name, earlier, model_folder, tmp_path, capfd, without_figures
):
    for number in range(round(TARGETS[name] * TIMES)):
        folder = tmp_path / f"{number}"
        if name.startswith("train"):
            folder.mkdir()
            if name.endswith("csv"):
                reviews_frame(40).to_csv(folder / name, index=False)
            else:
                reviews_frame(40).to_json(folder / name, orient="records")
            given = ["--dataset", folder]
        else:
            given = ["--model", shutil.copytree(model_folder, folder)]
        random = np.random.default_rng([SEED, number, *name.encode()])
        data, how = change((folder / name).read_bytes(), name, random)
        (folder / name).write_bytes(data)
        capfd.readouterr()
        given = [*earlier[1], "--methods", "head", *given, "--results", folder / "results"]
        status = finetuning.main([str(argument) for argument in given])
        lines = capfd.readouterr().err.splitlines()
        said = f"FUZZ_SEED={SEED} {number}: {how}: status {status}, {lines}"
        assert len(lines) == len(LINES[status]), said
        assert all(map(str.startswith, lines, LINES[status])), said
        shutil.rmtree(folder)
