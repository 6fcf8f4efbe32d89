"""Whatever stops a reader, named by nobody before, ends in one line; what is no input does not."""

import errno
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import reviews_frame
from hostile import begin, files_of

import boundary
import finetuning
from boundary import (
    BadInput,
    before_libraries,
    expanded,
    interrupt_once,
    leftovers,
    plain_cell,
    reading,
    reason,
    refuse,
    replacing,
    steady_output,
    writing,
)
from modeling import load_finetuned


class Unforeseen(Exception):
    """Nobody catches it by its name."""


class Panic(BaseException):
    """What a library in Rust raises is no `Exception`."""


ERRORS = pytest.mark.parametrize("error", [Panic("of\ntwo lines")])


def raising(error, only=lambda *arguments: True, otherwise=None):
    def function(*arguments, **named):
        if only(*arguments):
            raise error
        return otherwise(*arguments, **named)

    return function


@pytest.fixture(scope="module")
def earlier(model_folder, tmp_path_factory):
    """A folder with data in every format, an experiment with a killed run, and the arguments."""
    root = tmp_path_factory.mktemp("boundary")
    frame = reviews_frame(60)
    frame.to_json(root / "reviews.jsonl", orient="records", lines=True)
    frame.to_parquet(root / "reviews.parquet", index=False)
    for i, (text, label) in enumerate(frame.itertuples(index=False)):
        (root / "folder" / "train" / str(label)).mkdir(parents=True, exist_ok=True)
        (root / "folder" / "train" / str(label) / f"{i}.txt").write_text(text)
    arguments = begin(root, model_folder)
    return root, arguments


@pytest.fixture
def start(earlier, tmp_path, capsys):
    """Start the command after the earlier experiment: its status, lines of error, what is new."""
    root, fixed = earlier
    shutil.copytree(root / "results", tmp_path / "results")

    def started(*arguments):
        arguments = [a.format(root=root) for a in arguments]
        before = files_of(tmp_path / "results")
        capsys.readouterr()
        status = finetuning.main([*fixed, "--results", str(tmp_path / "results"), *arguments])
        after = files_of(tmp_path / "results")
        return status, capsys.readouterr().err.splitlines(), before, after

    return started


# ------------------------------------------------------------------ every reader

LORA = ("--methods", "lora")
NEW = ("--experiment", "new", *LORA)
MODEL = "transformers.AutoModelForSequenceClassification"
READERS = {  # what is patched, the arguments, and what the line must name
    "config": ("transformers.AutoConfig.from_pretrained", NEW, "config of MODEL "),
    "tokenizer": ("transformers.AutoTokenizer.from_pretrained", NEW, "tokenizer of MODEL "),
    "weights": (f"{MODEL}.from_pretrained", NEW, "weights of MODEL "),
    "shape": (f"{MODEL}.from_config", NEW, "config of MODEL "),
    "hub": ("datasets.load_dataset", (*NEW, "--dataset", "own/set"), "own/set"),
    "csv": ("data_utils.files.csv.reader", NEW, "reviews.csv"),
    "parquet": (
        "data_utils.files.ParquetFile",
        (*NEW, "--dataset", "{root}/reviews.parquet"),
        "reviews.parquet",
    ),
    "json": (
        "data_utils.files.json.loads",
        (*NEW, "--dataset", "{root}/reviews.jsonl"),
        "reviews.jsonl",
    ),
    "tokens": (
        "transformers.PreTrainedTokenizerFast.__call__",
        (*NEW, "--max-tokens", "9"),
        "MODEL",
    ),
    "lock": ("experiment.queue.FileLock", LORA, "RESULTS"),
    "state": ("experiment.runs.read_state", ("--methods", "bitfit"), "unfinished.pt"),
}


def refused(outcome, name):
    status, lines, before, after = outcome
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert name in lines[0]
    assert "of two lines" in lines[0]
    assert after == before


@ERRORS
@pytest.mark.parametrize("reader", READERS)
def test_whatever_a_reader_raises_ends_in_one_line(reader, error, start, monkeypatch):
    patched, arguments, name = READERS[reader]
    monkeypatch.setattr(patched, raising(error))
    refused(start(*arguments), name)


@ERRORS
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("folder/train/0/0.txt", (*NEW, "--dataset", "{root}/folder")),
        ("tiny/experiment.json", LORA),
        ("lora-seed0/run.json", LORA),
    ],
)
def test_whatever_stops_the_reading_of_a_text_names_it(name, arguments, error, start, monkeypatch):
    def only(path, *_, **__):
        return str(path).endswith(name)

    monkeypatch.setattr(Path, "read_text", raising(error, only, Path.read_text))
    refused(start(*arguments), name)


@ERRORS
@pytest.mark.parametrize(
    ("patched", "name"),
    [
        ("modeling.checkpoint.load_file", "lora-seed0"),
        ("modeling.checkpoint.json", "lora-seed0"),
        ("transformers.AutoConfig.from_pretrained", "config of MODEL"),
    ],
)
def test_a_checkpoint_is_refused_in_one_line(
    patched, name, error, earlier, model_folder, monkeypatch
):
    load = raising(error)
    monkeypatch.setattr(patched, SimpleNamespace(loads=load) if "json" in patched else load)
    with pytest.raises(BadInput, match=f"{name}.* cannot be read .*of two lines") as caught:
        load_finetuned(earlier[0] / "results" / "tiny" / "lora-seed0")
    assert caught.value.__cause__ is error


# ------------------------------------------------------------------ after set-up


@ERRORS
def test_an_unexpected_error_in_a_run_keeps_its_traceback(error, start, monkeypatch):
    monkeypatch.setattr(finetuning, "train", raising(error))
    with pytest.raises(type(error)) as caught:
        start("--methods", "adapter")
    assert caught.value is error


def test_a_loss_that_is_not_finite_is_a_failed_run(start, monkeypatch):
    monkeypatch.setattr(finetuning, "train", raising(FloatingPointError("the loss is nan")))
    status, lines, before, after = start("--methods", "adapter", "lora")
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("adapter seed 0 failed: the loss is nan")
    assert json.loads(after["tiny/adapter-seed0/run.json"])["status"].startswith("failed: ")
    assert {n: d for n, d in after.items() if "lora-" in n} == {
        n: d for n, d in before.items() if "lora-" in n
    }


# ------------------------------------------------------------------ the boundary itself


def test_reading_names_what_and_why_and_the_remedy():
    with pytest.raises(BadInput) as caught, reading("the file", "copy it"):
        raise Unforeseen("a\n  b")
    assert str(caught.value) == "the file cannot be read (Unforeseen: a b); copy it"
    with pytest.raises(BadInput, match=r"^the file cannot be read \(Panic\)$"), reading("the file"):
        raise Panic


@pytest.mark.parametrize("error", [BadInput("x"), KeyboardInterrupt(), SystemExit(3)])
def test_reading_lets_pass_what_says_more(error):
    with pytest.raises(type(error)) as caught, reading("the file"), reading("its part"):
        raise error
    assert caught.value is error


def test_a_reason_is_one_short_line_and_names_the_file():
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv")
    assert reason(missing) == "FileNotFoundError: No such file or directory: a.csv"
    assert reason(OSError("odd")) == "OSError: odd"
    assert reason(ValueError("word " * 1000)).count("\n") == 0
    assert len(reason(ValueError("word " * 1000))) <= 300
    assert len(reason(ValueError("w" * 1000))) <= 300


def test_a_refusal_is_one_line_and_with_traceback_says_where(capsys):
    try:
        with reading("the file"):
            raise Unforeseen("a\nb")
    except BadInput as caught:
        error = caught
    assert refuse(error, []) == 2
    assert capsys.readouterr() == ("", "error: the file cannot be read (Unforeseen: a b)\n")
    assert refuse(BadInput("two\nlines"), []) == 2
    assert capsys.readouterr().err == "error: two lines\n"
    assert refuse(error, ["--traceback"]) == 2
    shown = capsys.readouterr().err
    assert "test_boundary.py" in shown and "Unforeseen" in shown
    assert shown.endswith("error: the file cannot be read (Unforeseen: a b)\n")


def test_a_second_interrupt_is_heard_ten_seconds_after_the_first(monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    now = time.monotonic()
    monkeypatch.setattr(boundary, "time", SimpleNamespace(monotonic=lambda: now))
    try:
        interrupt_once()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        now += 9
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        now += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_a_closed_output_and_odd_letters_are_no_errors(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    with (tmp_path / "error").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        steady_output()
        print("nobody hears this", flush=True)
        print("سلبي", file=sys.stderr, flush=True)
    assert (tmp_path / "error").read_text() == "????\n"


def test_what_is_written_is_there_whole_or_not_at_all(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(Unforeseen), replacing(tmp_path / "a") as part:
        part.write_text("ne")
        raise Unforeseen
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [Unforeseen(), KeyboardInterrupt(), None])
def test_nothing_is_left_beside_what_is_written_and_nothing_of_the_users_is_touched(
    error, tmp_path
):
    (tmp_path / "a.part").mkdir()
    (tmp_path / "a.part" / "mine").write_text("mine")
    with suppress(Unforeseen, KeyboardInterrupt), replacing(tmp_path / "a") as part:
        part.write_text("new")
        part.with_name(".tmp1").write_text("a library's own")
        assert len(leftovers(tmp_path / "a")) == 1  # what a killed process would leave
        if error:
            raise error
    assert {path.name for path in tmp_path.iterdir()} == {"a.part"} | (set() if error else {"a"})
    assert (tmp_path / "a.part" / "mine").read_text() == "mine"


def test_what_is_written_has_the_usual_rights(tmp_path):
    (tmp_path / "usual").touch()
    with replacing(tmp_path / "a") as part:
        part.touch(mode=0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_error_of_the_file_system_is_named_and_only_a_full_disk_asks_for_room():
    with pytest.raises(BadInput, match="x cannot be .*choose another folder"), writing("x"):
        raise PermissionError(errno.EACCES, "Permission denied", "x")
    with pytest.raises(BadInput, match="make room"), writing("x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(Unforeseen), writing("x"):
        raise Unforeseen


def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe():
    cells = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "\rx", "-1.5", "+3", "good = bad", ""]
    plain = ["'=1+1", "'+cmd", "'-x", "'@SUM(A1)", "'\tx", "'\rx", "-1.5", "+3", "good = bad", ""]
    assert list(map(plain_cell, cells)) == plain


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_spin_a_short_time_unless_the_user_has_decided(given, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    before_libraries()
    chosen = {
        name: os.environ[name]
        for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
        if name in os.environ
    }
    assert chosen == (given or {"GOMP_SPINCOUNT": "10000"})


def test_only_a_leading_tilde_is_the_users_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/a") == Path("/home/me/a")
    assert expanded("a~/~") == Path("a~/~")
