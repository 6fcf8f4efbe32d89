"""Files changed at random: refused in one line or used, and nothing else.

Bytes are flipped, files truncated, entries removed or replaced by what nobody expects. Whatever a
file becomes, the command ends with status 0, 1 or 2, with the one line that goes with it, in time,
and what earlier runs have left stays as it was. The changes are always the same ones; a failure
names its file and number. More of them, or others:

    FUZZ_SEED=1 FUZZ_TIMES=5 pytest tests/test_fuzz.py
"""

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from conftest import reviews_frame
from forked import COMMAND, Servers, begin, files_of

from modeling import load_finetuned

SEED, TIMES = int(os.environ.get("FUZZ_SEED", 0)), float(os.environ.get("FUZZ_TIMES", 0.35))
ODD = [None, True, False, 0, 1, -1, 7, 1.5, 10**6, 2**31, 2**63, 10**40, 1e300, float("nan")]
ODD += ["", "x", "nan", "🎬", "../x", "a\nb", "x" * 10**5, [], {}, [[]], [0], ["x"], {"x": 1}]
RUN = f"""
import sys
sys.path[0] = {str(COMMAND.parent)!r}
import evaluation.report
import finetuning
from matplotlib.figure import Figure
# Figures are most of a short run's time: those of records are made and not written.
Figure.savefig = lambda figure, path, **_: open(path, "w").close()
if "new" in sys.argv:
    evaluation.report.draw = lambda results: {{}}
finetuning.steady_output()
sys.exit(finetuning.main())
"""
LOAD = f"""
import sys
sys.path[0] = {str(COMMAND.parent)!r}
from boundary import BadInput, refuse
from modeling import load_finetuned, load_peft
folder, base = sys.argv[1:]
try:
    loaded = load_peft(folder, base, ["0", "1"], 12) if "peft" in folder else load_finetuned(folder)
    loaded(["a good film"])
except BadInput as error:
    sys.exit(refuse(error, []))
"""


class Target(NamedTuple):
    """A file, and how often it is changed for FUZZ_TIMES=1."""

    place: str  # its folder: model, data, results/..., peft; all are copied anew
    name: str
    times: int


TARGETS = [
    Target("model", "config.json", 35),
    Target("model", "tokenizer.json", 30),
    Target("model", "tokenizer_config.json", 20),
    Target("model", "model.safetensors", 12),
    Target("data", "train.csv", 15),
    Target("data", "train.jsonl", 15),
    Target("results/tiny", "experiment.json", 20),
    Target("results/tiny/lora-seed0", "run.json", 25),
    Target("results/tiny/lora-seed0", "history.csv", 12),
    Target("results/tiny/lora-seed0", "steps.csv", 12),
    Target("results/tiny/lora-seed0", "changes.csv", 10),
    Target("results/tiny/lora-seed0", "predictions.csv", 12),
    Target("results/tiny/bitfit-seed0", "steps.csv", 10),
    Target("results/tiny/bitfit-seed0", "unfinished.safetensors", 12),
    Target("results/tiny/lora-seed0", "checkpoint.json", 25),
    Target("results/tiny/lora-seed0", "trained.safetensors", 10),
    Target("peft", "adapter_config.json", 25),
    Target("peft", "adapter_model.safetensors", 10),
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
def servers():
    with Servers(2) as started:
        yield started


@pytest.fixture(scope="module")
def sources(model_folder, tmp_path_factory, servers):
    """A folder with all that is changed, in folders of its own, and the command's arguments."""
    root = tmp_path_factory.mktemp("fuzz")
    arguments = begin(root, model_folder, servers)
    shutil.copytree(model_folder, root / "model")
    (root / "data").mkdir()
    reviews_frame(40).to_csv(root / "data" / "train.csv", index=False)
    reviews_frame(40).to_json(root / "data" / "train.jsonl", orient="records", lines=True)
    (root / "load.py").write_text(LOAD)
    (root / "run.py").write_text(RUN)
    loaded = load_finetuned(root / "results" / "tiny" / "lora-seed0")
    loaded.export(root / "peft", format="peft")
    return root, arguments


def arguments_for(target, folder, fixed):
    """The script that reads what has been changed, and its arguments."""
    place = folder / target.place
    if target.place == "peft" or target.name in ("checkpoint.json", "trained.safetensors"):
        return folder.parent / "load.py", [place, folder.parent / "model"]
    arguments = [*fixed, "--results", folder / "results", "--methods", "head"]
    if target.place == "model":
        arguments += ["--experiment", "new", "--model", place]
    elif target.place == "data":
        arguments += ["--experiment", "new", "--dataset", place / target.name]
    else:
        arguments += ["bitfit" if "bitfit" in target.place else "lora"]
    return folder.parent / "run.py", arguments


def attempt(target, number, sources, servers):
    """Change a file, start what reads it; returns what is wrong with its end, or None."""
    root, fixed = sources
    path = f"{target.place}/{target.name}"
    folder = root / re.sub(r"\W", "-", f"{path} {number}")
    folder.mkdir()
    shutil.copytree(root / "results", folder / "results")
    if not target.place.startswith("results"):
        shutil.copytree(root / target.place, folder / target.place)
    random = np.random.default_rng([SEED, number, *path.encode()])
    data, how = change((folder / path).read_bytes(), target.name, random)
    (folder / path).write_bytes(data)
    before = files_of(folder / "results")
    script, arguments = arguments_for(target, folder, fixed)
    status = servers.start(folder, arguments, script=script)
    error, after = (folder / "error").read_text(), files_of(folder / "results")
    wrong = fault(status, error, before, after)
    shutil.rmtree(folder)
    return f"FUZZ_SEED={SEED} {path} {number}: {how}: {wrong}" if wrong else None


def fault(status, error, before, after):
    """What is wrong with an end, or None."""
    lines = error.splitlines()
    starts = {0: [], 2: ["error: "]}.get(status, lines and [""] * len(lines))
    kept = [name for name in before if "-seed0/" in name and "bitfit" not in name]
    if status not in (0, 1, 2) or "Traceback" in error:
        return f"status {status}, {error[-600:]}"
    if len(lines) != len(starts) or not all(map(str.startswith, lines, starts)):
        return f"status {status}, {len(lines)} lines: {error[:600]}"
    if "the experiment cannot be read" in error:
        return f"the line names no file: {error}"
    if status == 1 and not all(" failed: " in line for line in lines):
        return f"status 1: {error}"
    if status == 2 and after != before:
        return f"refused, and wrote {sorted(set(after.items()) ^ set(before.items()))[:2]!r:.300}"
    if any(after.get(name) != before[name] for name in kept):
        return "a finished run has changed"
    return None


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.place}/{target.name}")
def test_a_file_changed_at_random_is_refused_in_one_line_or_used(target, sources, servers):
    with ThreadPoolExecutor(2) as pool:
        numbers = range(round(target.times * TIMES))
        wrong = list(pool.map(lambda n: attempt(target, n, sources, servers), numbers))
    assert not any(wrong), "\n" + "\n".join(filter(None, wrong))
