"""Bad inputs, one by one, through the command itself, in a process of its own.

Each ends in the exit status that the README promises, with one line on standard error that names
the value and what was expected, no traceback, and every earlier file as it was, `--fresh` or not.
Inputs that are merely odd work.

Python takes about five seconds to import the libraries, so most cases are forked off a process
that has done so; `finetuning.py` runs in it from its first line, with arguments, output and exit
status of its own. Cases that are marked `PLAIN` are started as a user starts them.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pandas as pd
import pytest
import torch
from conftest import reviews_frame, tiny
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

import finetuning
from experiment import parse

COMMAND = Path(finetuning.__file__)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
SERVER = """
import gc, json, os, runpy, sys
import finetuning, transformers.models.bert.modeling_bert
gc.collect()
gc.freeze()  # else each fork copies and frees all that the libraries hold: a second and a half
for line in sys.stdin:
    arguments, output, error = json.loads(line)
    child = os.fork()
    if not child:
        for path, number in (output, 1), (error, 2):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
PLAIN = True


class Case(NamedTuple):
    """An input and how it ends."""

    make: Callable[[Path, Path, Path], list]  # (folder, model, results) -> further arguments
    words: str  # a pattern in the one line on standard error, or in standard output at status 0
    status: int = 2
    plain: bool = False


def given(*arguments):
    return lambda folder, model, results: list(arguments)


def file(name, content):
    """A data file of a text or of bytes."""

    def make(folder, model, results):
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return ["--dataset", folder / name]

    return make


def folder_of(files):
    """A folder of data: content by path; a path that ends in a slash is a folder."""

    def make(folder, model, results):
        for path, content in files.items():
            place = folder / "data" / path
            (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                place.write_bytes(content)
        return ["--dataset", folder / "data"]

    return make


def model(change):
    """A copy of the tiny model's folder, changed."""

    def make(folder, model, results):
        copy = shutil.copytree(model, folder / "model")
        change(copy)
        return ["--model", copy]

    return make


def records(change, *arguments):
    """The earlier experiment's folder, changed, and asked for one more method."""

    def make(folder, model, results):
        change(results / "tiny")
        return arguments or ["--methods", "head", "lora", "bitfit"]

    return make


def csv(frame):
    return frame.to_csv(index=False)


def rows(n=60, **columns):
    return reviews_frame(n).assign(**columns)


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def parquet_bytes(frame):
    return frame.to_parquet()


def class_folders(**more):
    texts = {f"train/{'pos' if i % 2 else 'neg'}/{i}.txt": f"text {i}".encode() for i in range(60)}
    return folder_of(texts | more)


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


def three_labels(folder):
    config = AutoConfig.from_pretrained(folder, num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def small_vocabulary(folder):
    edit(folder / "config.json", vocab_size=12)
    name = "bert.embeddings.word_embeddings.weight"
    edit_tensors(folder, lambda t: t.update({name: t[name][:12].clone()}))


def no_tokenizer(folder):
    for path in (*folder.glob("tokenizer*"), folder / "vocab.txt"):
        path.unlink()


def edit_table(path, change):
    change(pd.read_csv(path)).to_csv(path, index=False)


NAN = float("nan")
WIDE = "\n".join(f"a good, long film {i},{i % 2}" for i in range(60))
RANK = ("--methods", "lora", "--lora-rank")

FILES = {
    "no file": Case(given("--dataset", "absent.csv"), "absent.csv does not exist", plain=PLAIN),
    "empty file": Case(file("e.csv", ""), "e.csv is empty"),
    "header alone": Case(file("h.csv", "text,label\n"), "h.csv .*no data.*a row each"),
    "binary file": Case(file("b.csv", bytes(range(256)) * 40), "b.csv cannot be read as csv"),
    "latin-1": Case(file("l.csv", csv(rows(text="café")).encode("latin-1")), "l.csv .*UTF-8"),
    "utf-16": Case(file("u.csv", csv(rows()).encode("utf-16")), "u.csv .*UTF-8"),
    "wrong columns": Case(
        file("c.csv", csv(rows().rename(columns={"text": "body"}))),
        "no column 'text'; it has body, label: set TEXT_COLUMN",
    ),
    "text column given as labels": Case(
        given("--label-column", "text"), "TEXT_COLUMN and LABEL_COLUMN are both 'text'"
    ),
    "a row too long": Case(file("r.csv", csv(rows()) + "a, b, c,1\n"), "Expected 2 .* saw 4"),
    "every row too long": Case(file("w.csv", "text,label\n" + WIDE), "w.csv .*more fields"),
    "open quote": Case(file("q.csv", csv(rows()) + '"a film,1\n'), "q.csv cannot be read as csv"),
    "one class": Case(file("o.csv", csv(rows(label=1))), "have the label 1; expected two"),
    "ten thousand classes": Case(
        file("t.csv", csv(rows(20000, label=[i // 2 for i in range(20000)]))),
        "no test split .* 10,000 labels",
    ),
    "a label missing": Case(file("m.csv", csv(rows(label=[NAN, *[0, 1] * 29, 1]))), "no label"),
    "fractions": Case(file("f.csv", csv(rows(label=[0.5, 1] * 30))), "numbers such as 0.5"),
    "infinite labels": Case(file("i.csv", csv(rows(label=[1e300, 1] * 30))), "i.csv .*1e\\+300"),
    "lists as labels": Case(
        file("n.jsonl", rows(label=[[0], [1]] * 30).to_json(orient="records", lines=True)),
        "'label' of .*n.jsonl holds .*; expected integers, booleans or strings",
    ),
    "numbers as text": Case(file("n.csv", csv(rows(text=range(60)))), "holds int64, not text"),
    "only spaces": Case(file("s.csv", csv(rows(text="  "))), "has no texts"),
    "broken json": Case(file("j.json", '[{"text": "a", "lab'), "j.json cannot be read as json"),
    "truncated parquet": Case(
        file("p.parquet", parquet_bytes(rows())[:900]), "p.parquet cannot be read as parquet"
    ),
    "unknown format": Case(file("r.xlsx", "PK"), "r.xlsx is no .csv, .json"),
    "empty folder": Case(folder_of({"./": b""}), "neither a file train"),
    "two files for a split": Case(
        folder_of({"train.csv": csv(rows()).encode(), "train.jsonl": b"{}"}),
        "both train.csv and train.jsonl",
    ),
    "empty class folder": Case(class_folders(**{"train/odd/": b""}), "train/odd has no .txt"),
    "latin-1 in a class folder": Case(
        class_folders(**{"train/neg/é.txt": "café".encode("latin-1")}), "train/neg/é.txt .*UTF-8"
    ),
}

CONSTANTS = {
    "negative epochs": Case(given("--epochs", "-1"), "EPOCHS is -1; expected a whole", plain=PLAIN),
    "more epochs than fit": Case(given("--epochs", "1" + "0" * 20), "EPOCHS is 1000.*below 2"),
    "rate not a number": Case(given("--learning-rates", "head=nan"), r"\['head'\] is nan; exp"),
    "infinite rate": Case(given("--learning-rates", "head=inf"), r"\['head'\] is inf; exp"),
    "rate of an unknown method": Case(given("--learning-rates", "x=1"), "unknown method 'x'"),
    "rate of no method": Case(given("--learning-rates", "0.1"), "'0.1' is not of the form"),
    "huge max tokens": Case(given("--max-tokens", "1" + "0" * 9), "MAX_TOKENS is .*set it to 18"),
    "huge rank": Case(given(*RANK, "2000000000"), "lora .*GiB.*lower LORA_RANK"),
    "huge bottleneck": Case(
        given("--methods", "adapter", "--adapter-bottleneck", "2000000000"),
        "adapter .*GiB.*ADAPTER_BOTTLENECK",
    ),
    "no hyperparameter": Case(given("--methods", "lora(rnk=4)"), "no hyperparameter 'rnk'"),
    "code for a hyperparameter": Case(
        given("--methods", "lora(rank=__import__('os').mkdir('x'))"), "expected a name, or a name"
    ),
    "huge rank of a variant": Case(
        given("--methods", "lora(rank=2000000000)"), r"lora\(rank=2000000000\) needs .*GiB"
    ),
    "unknown target": Case(given("--methods", "lora", "--lora-targets", "w"), "targets are .'w'"),
    "seed too large": Case(given("--seeds", str(2**63)), r"SEEDS is \[9223.*below 2\*\*63"),
    "experiment above": Case(given("--experiment", ".."), "EXPERIMENT is '..'; expected a name"),
    "experiment too long": Case(given("--experiment", "x" * 300), "expected a name .* 200 bytes"),
    "experiment of two lines": Case(given("--experiment", "a\nb"), r"EXPERIMENT is 'a\\nb'"),
    "no option": Case(given("--epoch-count", "1"), "unrecognized arguments: --epoch-count"),
    "results is a file": Case(given("--results", COMMAND), "finetuning.py/tiny .*set RESULTS"),
    "results cannot be written": Case(given("--results", "/proc/x"), "/proc/x/tiny .*set RESULTS"),
}

MODELS = {
    "no model": Case(given("--model", "/nowhere"), "model /nowhere cannot be loaded"),
    "no weights": Case(
        model(lambda f: (f / "model.safetensors").unlink()), "weights of .*safetens"
    ),
    "truncated weights": Case(
        model(lambda f: cut(f / "model.safetensors")), "weights of .* cannot be loaded", plain=PLAIN
    ),
    "weights not finite": Case(
        model(lambda f: edit_tensors(f, lambda t: t["classifier.bias"].fill_(NAN))),
        "classifier.bias .*not finite",
    ),
    "weights of another shape": Case(
        model(lambda f: edit(f / "config.json", intermediate_size=16)),
        r"intermediate.dense.* has shape \(12,.*expects \(16,",
    ),
    "weights of another family": Case(model(other_weights), "weights of .* lack .*bert.embeddings"),
    "head of other labels": Case(model(three_labels), "a head for 3 labels, and there are 2"),
    "pickle that runs code": Case(model(malicious), "weights of .* cannot be loaded"),
    "no tokenizer": Case(model(no_tokenizer), "has no tokenizer files"),
    "broken tokenizer": Case(
        model(lambda f: cut(f / "tokenizer.json")), "the tokenizer of .* cannot be loaded"
    ),
    "tokenizer of another model": Case(model(small_vocabulary), "20 tokens.* 12 embeddings"),
    "gpt-2": Case(model(lambda f: edit(f / "config.json", model_type="gpt2")), "family 'gpt2'"),
    "t5": Case(model(lambda f: edit(f / "config.json", model_type="t5")), "family 't5'"),
    "clip": Case(model(lambda f: edit(f / "config.json", model_type="clip")), "family 'clip'"),
    "no family": Case(model(lambda f: (f / "config.json").write_text("{}")), "cannot be loaded"),
    "broken config": Case(model(lambda f: cut(f / "config.json")), "cannot be loaded"),
    "config of wrong types": Case(
        model(lambda f: edit(f / "config.json", hidden_size="eight")),
        "cannot be loaded.*hidden_size",
    ),
    "config that cannot be built": Case(
        model(lambda f: edit(f / "config.json", num_attention_heads=3)), "multiple of"
    ),
}

RECORD = "lora-seed0/run.json"
RECORDS = {
    "other constants": Case(
        records(lambda f: None, "--epochs", "3"), "EPOCHS = 1, not 3; choose another"
    ),
    "truncated record": Case(records(lambda f: cut(f / RECORD)), "run.json cannot be read"),
    "binary record": Case(
        records(lambda f: (f / RECORD).write_bytes(bytes(range(256)))), "run.json cannot be read"
    ),
    "empty record": Case(records(lambda f: (f / RECORD).write_bytes(b"")), "run.json cannot be"),
    "record of another form": Case(
        records(lambda f: (f / RECORD).write_text("[]")), "run.json cannot be read"
    ),
    "record without a number": Case(
        records(lambda f: (f / RECORD).write_text('{"status": "finished"}')),
        "run.json cannot be read",
    ),
    "a run twice": Case(
        records(lambda f: shutil.copytree(f / "lora-seed0", f / "lora-seed1")),
        "holds a run that another folder holds too",
    ),
    "broken experiment": Case(
        records(lambda f: cut(f / "experiment.json")), "experiment.json cannot be read"
    ),
    "experiment of another version": Case(
        records(lambda f: edit(f / "experiment.json", constants={"epochs": 1})),
        "unknown .another version",
    ),
    "experiment of another form": Case(
        records(lambda f: (f / "experiment.json").write_text("[]")), "experiment.json cannot be"
    ),
    "no experiment": Case(
        records(lambda f: (f / "experiment.json").unlink()), "experiment.json is missing"
    ),
    "broken history": Case(
        records(lambda f: (f / "lora-seed0" / "history.csv").write_bytes(b'a,"b')),
        "lora-seed0/history.csv cannot be read",
    ),
    "broken changes": Case(
        records(lambda f: (f / "lora-seed0" / "changes.csv").write_bytes(b"\xff\n")),
        "lora-seed0/changes.csv cannot be read",
    ),
    "no predictions": Case(
        records(lambda f: (f / "lora-seed0" / "predictions.csv").unlink()),
        "lora-seed0/predictions.csv is missing",
    ),
    "layout of before": Case(
        records(lambda f: (f / "checkpoints").mkdir()), "results of an earlier version"
    ),
}

EMOJI = "🎬👍🏽 good"
RIGHT_TO_LEFT = "فيلم رائع \u202e good"
ODD_TEXTS = rows(label=["$α_β,\"'; ", "سلبي 👎"] * 30)
ODD_TEXTS["text"] = [f"{EMOJI} {RIGHT_TO_LEFT} {i}" for i in range(59)] + ["a good film " * 90000]


def odd_names(folder, model, results):
    path = folder / "ré [1] *?#.csv"
    path.write_text(csv(ODD_TEXTS))
    return ["--dataset", path, "--experiment", "🎬 $\\frac{ _^ عرض"]


REPEATED = pd.concat([rows(), rows()[:3], rows()[3:5].assign(label=[0, 1])])

ODD = {
    "byte-order mark and Windows lines": Case(
        file("w.csv", ("\ufeff" + csv(rows())).replace("\n", "\r\n").encode()),
        "Reviews: 48 train, 6 validation, 6 test; labels 0, 1",
        0,
    ),
    "odd names, emoji, right to left, a megabyte": Case(odd_names, "سلبي 👎", 0, PLAIN),
    "reviews twice, some under two labels": Case(
        file("d.csv", csv(REPEATED)), "3 repeated texts dropped.*2 texts with two labels", 0
    ),
    "huge batch, largest seed": Case(
        given("--batch-size", str(2**31 - 1), "--seeds", str(2**63 - 1)), f"seed {2**63 - 1}: te", 0
    ),
    "weights as a pickle": Case(model(pickled), "head seed 0: test accuracy", 0),
    "broken records, started over": Case(
        records(lambda f: cut(f / RECORD), "--experiment", "tiny", "--fresh"),
        "Runs to do: 1",
        0,
    ),
}
FAILED = {
    "learning rate too high": Case(
        given("--learning-rates", "head=1e30"),
        "head seed 0 failed: .*lower it in LEARNING_RATES",
        1,
        PLAIN,
    ),
}
CASES = FILES | CONSTANTS | MODELS | RECORDS | ODD | FAILED


CONSTANTS_IN_THE_FILE = [
    ("SEEDS", 0),
    ("SEEDS", (0, -1)),
    ("SEEDS", (True,)),
    ("METHODS", ()),
    ("METHODS", "lora"),
    ("LEARNING_RATES", 1e-3),
    ("LEARNING_RATES", {"head": "fast", "adapter": 1e-3, "lora": 1e-3}),
    ("EPOCHS", "3"),
    ("EPOCHS", None),
    ("MODEL", None),
    ("DATASET", ""),
    ("TEXT_COLUMN", 1),
    ("EXPERIMENT", 5),
    ("EXPERIMENT", "a/b"),
    ("RESULTS", None),
    ("TRAIN_EXAMPLES", 0),
    ("WARMUP", float("nan")),
    ("WEIGHT_DECAY", 10**400),
    ("ENCODER_DROPOUT", 1),
    ("LORA_TARGETS", "q"),
    ("LORA_TARGETS", ("q", "q")),
    ("TRUNCATION", "middle"),
    ("EVALUATIONS_PER_EPOCH", 0),
    ("MICRO_BATCH_TOKENS", 0),
    ("TENSORBOARD", "yes"),
    ("LORA_RSLORA", 1),
    ("GRADIENT_CLIP", 0),
    ("SPLIT_SEED", -1),
]


@pytest.mark.parametrize(("name", "value"), CONSTANTS_IN_THE_FILE)
def test_a_constant_of_the_wrong_kind_is_named_with_what_was_expected(name, value):
    with pytest.raises(ValueError, match=rf"^{name}\b.* is .*; expected "):
        parse(vars(finetuning) | {name: value}, [])


class Server:
    """A Python that has imported the libraries and forks for each start of the command."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=COMMAND.parent,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, arguments, output, error):
        """Run the command to its end; returns its exit status."""
        request = [str(COMMAND), *arguments], str(output), str(error)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def start_plain(arguments, output, error):
    """Run the command as a user does; returns its exit status."""
    with output.open("w") as out, error.open("w") as err:
        command = [sys.executable, str(COMMAND), *arguments]
        return subprocess.run(
            command, env=os.environ | ENVIRONMENT, stdout=out, stderr=err
        ).returncode


class Outcome(NamedTuple):
    """What a start of the command left behind."""

    status: int
    output: str
    error: str
    before: dict[str, bytes]  # the files in the results' folder, by their path
    after: dict[str, bytes]


def files_of(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def outcomes(model_folder, tmp_path_factory, request):
    """Each chosen case's outcome to come, two at a time, each after an earlier experiment."""
    root = tmp_path_factory.mktemp("bad")
    reviews_frame(60).to_csv(root / "reviews.csv", index=False)
    fixed = {
        "--experiment": "tiny",
        "--model": model_folder,
        "--dataset": root / "reviews.csv",
        "--max-tokens": 12,
        "--epochs": 1,
        "--learning-rates": "head=0.01",
        "--methods": "head",
    }
    base = [str(part) for pair in fixed.items() for part in pair]
    servers = SimpleQueue()

    def run(name):
        case, folder = CASES[name], root / re.sub(r"\W+", "-", name)
        results = folder / "results"
        shutil.copytree(root / "earlier", results)
        arguments = [*base, "--results", str(results)]
        arguments += ["--experiment", "new"] if case.status < 2 else []
        arguments += map(str, case.make(folder, model_folder, results))
        arguments += ["--fresh"] if case.status == 2 and name not in RECORDS else []
        before = files_of(results)
        streams = folder / "output", folder / "error"
        if case.plain:
            status = start_plain(arguments, *streams)
        else:
            server = servers.get()
            status = server.start(arguments, *streams)
            servers.put(server)
        output, error = (stream.read_text() for stream in streams)
        return Outcome(status, output, error, before, files_of(results))

    started = [Server(), Server()]
    for server in started:
        servers.put(server)
    earlier = [*base, "--methods", "head", "lora", "--results", str(root / "earlier")]
    status = started[0].start(earlier, root / "output", root / "error")
    assert status == 0, (root / "error").read_text()
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_bad_input_ends_as_promised"
    ]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, name) for name in chosen}
        pool.shutdown(cancel_futures=True)
    for server in started:
        server.stop()


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_as_promised(outcomes, name):
    case, outcome = CASES[name], outcomes[name].result()
    written = {path for path, data in outcome.after.items() if outcome.before.get(path) != data}
    assert outcome.status == case.status, outcome.error or outcome.output
    assert "Traceback" not in outcome.error
    if case.status == 0:
        assert re.search(case.words, outcome.output, re.DOTALL)
        assert outcome.error == ""
        assert any(path.endswith("test_accuracy.png") for path in written)
    else:
        assert re.search(case.words, outcome.error)
        assert outcome.error.count("\n") == 1
        assert outcome.error.startswith("error: " if case.status == 2 else "head seed 0 failed: ")
    if name != "broken records, started over":
        assert {path for path in written if path.startswith("tiny/")} == set()
        assert outcome.before.keys() <= outcome.after.keys()
    if case.status == 2:
        assert not written


def test_an_interrupt_ends_in_one_line_and_keeps_what_is_there(model_folder, tmp_path):
    reviews_frame(60).to_csv(tmp_path / "reviews.csv", index=False)
    arguments = ["--model", model_folder, "--dataset", tmp_path / "reviews.csv"]
    arguments += ["--experiment", "i", "--results", tmp_path, "--methods", "head"]
    arguments += ["--max-tokens", "12"]
    arguments += ["--epochs", "1000000", "--patience", "1000000", "--learning-rates", "head=1e-9"]
    process = subprocess.Popen(
        [sys.executable, COMMAND, *arguments],
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's & ignores it
    )
    try:
        while not list(tmp_path.glob("i/*/trained.safetensors")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert error.startswith("interrupted: what is finished is kept; resume with: python ")
    assert error.count("\n") == 1
