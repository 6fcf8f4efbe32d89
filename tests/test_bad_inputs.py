"""Bad inputs, one by one, through the command itself.

Each ends in the exit status that docs/many-processes.md promises, with one line on standard error
that names the value and what was expected, no traceback, and every earlier file as it was,
`--fresh` or not. No code that comes with the input is run, and standard input is not read. Inputs
that are merely odd work.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import hostile
import pytest
from conftest import files_of
from hostile import config, csv, cut, data, given, model, nameless, record, renamed, with_code

import finetuning

COMMAND = Path(finetuning.__file__)


class Case(NamedTuple):
    """An input and how it ends."""

    make: Callable[[Path, Path, Path], list]  # see hostile.py
    words: str  # a pattern in the one line on standard error, or in standard output at status 0
    status: int = 2
    environment: dict[str, str] = {}  # {folder} in a value stands for the case's own


SCRIPT = "import os\nos.mkdir('intruded')\n"

OPTIONS = {  # data that cannot be read: tests/test_bad_data.py
    ("--dataset", "absent.csv"): "absent.csv does not exist",
    ("--labels", "4"): "use more --labels than 4",
    ("--learning-rates", "head=nan"): r"--learning-rates\['head'\].* is 'nan'; it",
    ("--learning-rates", "0.1"): "'0.1' is not of the form",
    ("--max-tokens", "1" + "0" * 9): "MAX_TOKENS is .*set it to 18",
    ("--methods", "lora(rank=__import__('os').mkdir('intruded'))"): "expected a name, or a name",
    ("--methods", "probe(pooling='auto')"): "POOLING is 'auto'; choose from first, mean, layers",
    ("--seeds", str(2**63)): r"--seeds.0. is '9223.*less than 92",
    ("--experiment", "x" * 300): "a name .* 200 bytes",
    ("--experiment", "a\nb"): r"--experiment is 'a\\nb'",
    ("--epoch-count", "1"): "unrecognized arguments: --epoch-count",
    ("--results", COMMAND): "finetuning.py/tiny .*set it to a f",
    ("--model", "/nowhere"): "MODEL /nowhere does not exist",
    ("--model", __file__): "MODEL .* is a file; give the folder",
    ("--model", "x" * 300): "MODEL x.* cannot be read",
}
WORKS = "head seed 0: test accuracy"
AUTO = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
OWN = {"model_type": "own", "auto_map": AUTO}
OWN_TOKENIZER = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}

MODELS = {
    "no weights": Case(model(lambda f: (f / "model.safetensors").unlink()), "MODEL .*safet"),
    "a folder without an encoder": Case(renamed("x.json"), "has no config.json; give the folder"),
    "a classifier": Case(renamed("checkpoint.json"), "that this package trained; give the enc"),
    "an adapter": Case(renamed("adapter_config.json"), "MODEL .* has an adapter; give the encoder"),
    "an encoder and an adapter": Case(
        model(lambda f: (f / "adapter_config.json").write_text("{}")), "MODEL .* has an adapter"
    ),
    "weights not finite": Case(model(hostile.infinite), "bias .* finite"),
    "weights of another shape": Case(config(intermediate_size=16), "see .*intermediate.dense"),
    "a block too few in the config": Case(config(num_hidden_layers=1), "see .*layer.1"),
    "pickle that runs code": Case(model(hostile.malicious), "MODEL .* cannot be read"),
    "code, of no known family": Case(with_code("config.json", **OWN), "MODEL .* read .*own"),
    "no tokenizer": Case(model(hostile.no_tokenizer), "has no tokenizer.json"),
    "another tokenizer": Case(model(hostile.small_vocabulary), "20 tokens.* 12 embeddings"),
    "config that cannot be built": Case(config(num_attention_heads=3), "multiple of"),
}

RUN = "lora-seed0/run.json"
UNFINISHED = ("--methods", "bitfit")
FRESH = ("--methods", "head", "--fresh")
STATE = "bitfit-seed0/unfinished.pt"

RECORDS = {
    "truncated record": Case(record(RUN, cut), "run.json cannot be read"),
    "truncated experiment": Case(record("experiment.json", cut), "experiment.json cannot be read"),
    "experiment without a list": Case(
        record("experiment.json", nameless),
        r"experiment.json cannot be read \(KeyError: 'methods'\)",
    ),
    "truncated state": Case(record(STATE, cut, *UNFINISHED), f"{STATE} cannot .*delete it", 1),
    "truncated record, started over": Case(record(RUN, cut, *FRESH), "Runs to do: 1", 0),
}

ODD_TEXTS = [f"🎬👍🏽 good فيلم رائع \u202e good {i}" for i in range(59)] + ["a good film " * 90000]
ODD_LABELS = [("$α_β,\"'; ", "سلبي 👎")[i % 2] for i in range(60)]
ODD_FILE = "ré $a_b$ [1] *?#.csv"
ODD_DATA = {ODD_FILE: csv(text=ODD_TEXTS, label=ODD_LABELS)}
WINDOWS = data({"w.csv": ("\ufeff" + csv()).replace("\n", "\r\n")}, "w.csv")
SCRIPTED = data({"data/train.csv": csv(), "data/data.py": SCRIPT}, "data")
LARGE = given("--batch-size", str(2**31 - 1), "--seeds", str(2**63 - 1))
ODD_NAMES = data(ODD_DATA, ODD_FILE, "--experiment", "🎬 $\\frac{ عرض")


def at_home(folder, model, results):
    """Everything in the user's own folder, which ~ stands for."""
    shutil.copytree(model, folder / "model")
    (folder / "reviews.csv").write_text(csv())
    return ["--model", "~/model", "--dataset", "~/reviews.csv", "--results", "~/results"]


ODD = {
    "byte-order mark and Windows lines": Case(WINDOWS, "43 train, 11 validation, 6 test", 0),
    "odd names, emoji, right to left, a megabyte": Case(ODD_NAMES, "labels .*سلبي", 0),
    "data with a script": Case(SCRIPTED, WORKS, 0),
    "code, of a known family": Case(with_code("config.json", auto_map=AUTO), WORKS, 0),
    "tokenizer with code": Case(with_code("tokenizer_config.json", **OWN_TOKENIZER), WORKS, 0),
    "everything in ~": Case(at_home, WORKS, 0, {"HOME": "{folder}"}),
    "huge batch, largest seed": Case(LARGE, f"seed {2**63 - 1}: test accuracy", 0),
}
CASES = {f"{' '.join(map(str, o)):.40}": Case(given(*o), words) for o, words in OPTIONS.items()}
CASES |= MODELS | RECORDS | ODD


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_as_promised(name, earlier, model_folder, tmp_path, monkeypatch, capfd):
    case, results = CASES[name], tmp_path / "results"
    shutil.copytree(earlier[0] / "results", results)
    arguments = [*earlier[1], "--methods", "head", "--results", results]
    arguments += ["--experiment", "new"] if case.status < 2 and name not in RECORDS else []
    arguments += case.make(tmp_path, model_folder, results)
    arguments += ["--fresh"] if case.status == 2 and name not in RECORDS else []
    environment = {k: v.format(folder=tmp_path) for k, v in case.environment.items()}
    before = files_of(results)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    capfd.readouterr()
    status = finetuning.main([str(argument) for argument in arguments])
    output, error = capfd.readouterr()
    after = files_of(results)
    changed = {path for path, data in after.items() if before.get(path) != data}
    assert status == case.status, error or output
    assert "Traceback" not in error and not list(tmp_path.rglob("intruded"))
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert left <= {"results", "model", "data"}, left  # the working folder: nothing else in it
    if status == 0:
        assert re.search(case.words, output, re.DOTALL) and error == ""
        assert any(path.endswith("report.md") for path in changed)
    else:
        assert re.search(case.words, error) and error.count("\n") == 1
        assert re.match("error: " if status == 2 else r"\w+ seed 0 failed: ", error)
    if status == 2:
        assert after == before
    elif name not in RECORDS:
        assert not any(path.startswith("tiny/") for path in changed)


def test_a_pipe_that_nobody_reads_ends_it_in_one_line(earlier, tmp_path, monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    with monkeypatch.context() as patch, suppress(BrokenPipeError), os.fdopen(write, "w", 1) as out:
        patch.setattr(sys, "stdout", out)
        arguments = [*earlier[1], "--methods", "tfidf", "--results", str(tmp_path)]
        assert finetuning.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("stopped (BrokenPipeError: Broken pipe): what is finished")
    assert error.count("\n") == 1
