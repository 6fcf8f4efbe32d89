"""Whatever stops a reader, named by nobody before, ends in one line; what is no input does not."""

import errno
import io
import shutil
import signal
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from conftest import files_of, raising, reviews_frame

import boundary
import finetuning
from boundary import BadInput, plain_cell, reading, reason, refuse, replacing, writing


class Unforeseen(Exception):
    """Nobody catches it by its name."""


class Panic(BaseException):
    """What a library in Rust raises is no `Exception`."""


PANIC = Panic("of\ntwo lines")
NO_LOCKS = OSError(errno.ENOSYS, "no such function")
panic = raising(PANIC)


@pytest.fixture
def start(earlier, tmp_path, capsys):
    """Start the command after the earlier experiment: its status, and its lines of error."""
    root, fixed = earlier
    shutil.copytree(root / "results", tmp_path / "results")
    frame = reviews_frame(60)
    frame.to_json(tmp_path / "reviews.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "reviews.parquet", index=False)

    def started(*arguments):
        arguments = [a.format(tmp=tmp_path) for a in arguments]
        capsys.readouterr()
        status = finetuning.main([*fixed, "--results", str(tmp_path / "results"), *arguments])
        return status, capsys.readouterr().err.splitlines()

    return started


LORA = ("--methods", "lora")
NEW = ("--experiment", "new", *LORA)
MODEL = "transformers.AutoModelForSequenceClassification"
READERS = {  # what is patched: the arguments, and words of the line; files: test_bad_inputs.py
    "transformers.AutoConfig.from_pretrained": (NEW, "MODEL "),
    "transformers.AutoTokenizer.from_pretrained": (NEW, "MODEL "),
    f"{MODEL}.from_pretrained": (NEW, "MODEL "),
    f"{MODEL}.from_config": (NEW, "config of MODEL "),
    "transformers.PreTrainedTokenizerFast.__call__": (NEW, "the texts with the tokenizer "),
    "datasets.load_dataset": ((*NEW, "--dataset", "own/set"), "own/set"),
    "data_utils.files.csv.reader": (NEW, "reviews.csv"),
    "data_utils.files.ParquetFile": ((*NEW, "--dataset", "{tmp}/reviews.parquet"), "s.parquet"),
    "data_utils.files.json.loads": ((*NEW, "--dataset", "{tmp}/reviews.jsonl"), "reviews.jsonl"),
    "experiment.queue.lock": (LORA, "RESULTS"),
}


@pytest.mark.parametrize("reader", READERS)
def test_whatever_a_reader_raises_ends_in_one_line(reader, start, monkeypatch, tmp_path):
    monkeypatch.setattr(reader, panic)
    before = files_of(tmp_path / "results")
    status, lines = start(*READERS[reader][0])
    assert status == 2 and len(lines) == 1 and lines[0].startswith("error: ")
    assert READERS[reader][1] in lines[0] and "of two lines" in lines[0]
    assert files_of(tmp_path / "results") == before


def test_an_unexpected_error_in_a_run_keeps_its_traceback(start, monkeypatch, without_figures):
    monkeypatch.setattr(finetuning, "train", panic)
    with pytest.raises(Panic) as caught:
        start("--methods", "adapter")
    assert caught.value is PANIC


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
        boundary.interrupt_once()
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
        boundary.steady_output()
        print("nobody hears this", flush=True)
        print("سلبي", file=sys.stderr, flush=True)
    assert (tmp_path / "error").read_text() == "????\n"
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())  # as a notebook's, it has no encoding
    boundary.steady_output()


@pytest.mark.parametrize("error", [Unforeseen(), KeyboardInterrupt(), None])
def test_what_is_written_is_there_whole_or_not_at_all_and_nothing_beside_it(error, tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a.part").mkdir()
    (tmp_path / "a.part" / "mine").write_text("mine")
    (tmp_path / ".a.part-0a1b2c3d").mkdir()  # by a killed process
    (tmp_path / ".a.part-0a1b2c3d" / "a").touch()
    boundary.clear(tmp_path)
    with suppress(Unforeseen, KeyboardInterrupt), replacing(tmp_path / "a") as part:
        part.write_text("new")
        part.with_name(".tmp1").write_text("a library's own")
        if error:
            raise error
    assert {path.name for path in tmp_path.iterdir()} == {"a.part", "a"}
    assert (tmp_path / "a").read_text() == ("old" if error else "new")
    assert (tmp_path / "a.part" / "mine").read_text() == "mine"


def test_a_file_system_without_locks_is_refused(start, monkeypatch):
    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", raising(NO_LOCKS))
    status, lines = start(*LORA)
    assert status == 2 and len(lines) == 1 and "RESULTS " in lines[0] and "no locks" in lines[0]


def test_an_error_of_the_file_system_is_named_and_only_a_full_disk_asks_for_room():
    with pytest.raises(BadInput, match="x cannot be .*choose another folder"), writing("x"):
        raise PermissionError(errno.EACCES, "Permission denied", "x")
    with pytest.raises(BadInput, match="make room"), writing("x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(Unforeseen), writing("x"):
        raise Unforeseen


def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe():
    cells = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "\rx", "-1,2,3"]
    plain = ["-1.5", "-3,5", "+3", "good = bad", ""]
    guarded = [f"'{cell}".replace("\r", "\n") for cell in cells]  # a return would end the row
    assert list(map(plain_cell, cells + plain)) == guarded + plain


def test_a_text_is_cut_after_a_word_or_within_one_that_is_longer():
    assert boundary.short("one  two\nthree", 20) == "one two three"
    assert boundary.short("one two three", 10) == "one two…"
    assert boundary.short("很好的电影" * 10, 8) == "很好的电影很好…"
