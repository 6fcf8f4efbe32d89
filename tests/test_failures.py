"""A failure is one run's: its state stays, and the next start goes on."""

import time
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import hostile
import pandas as pd
import pytest
import torch
from conftest import raising, tiny
from test_runs import contents, prepared
from test_training import in_training, run_of, settings
from tqdm import tqdm

import finetuning
from boundary import BadInput
from experiment import runs, setup, work
from experiment.runs import STATE
from modeling import HeadOnlyModel, checkpoint
from records import RECORD, RunRecord

pytestmark = pytest.mark.usefixtures("without_figures")

FULL = OSError(28, "No space left on device")
ON_CPU = "[enforce fail at alloc_cpu.cpp:116] . DefaultCPUAllocator: can't allocate memory"
MEMORY = "out of memory; lower MICRO_BATCH_TOKENS first (it changes no result but by dropout)"


def failing(monkeypatch, arguments, error):
    """The exit status of a command whose run of LoRA raises `error` after an evaluation."""
    evaluated, train_part = [], finetuning.train_part

    def fail(state, *given):
        if "lora" in type(state.model).__name__.lower() and evaluated:
            raise error
        evaluated.append(state)
        return train_part(state, *given)

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "train_part", fail)
        return finetuning.main(arguments)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), MEMORY),
        (RuntimeError(ON_CPU), MEMORY),
        (FULL, "No space left on device); make room"),
        (BadInput("cannot be kept"), "cannot be kept"),
        (FloatingPointError("the loss is nan"), "the loss is nan; lower it in LEARNING_RATES"),
    ],
)
def test_a_failure_is_recorded_in_one_line(error, line, tmp_path, capsys):
    run = run_of(tmp_path)
    run.facts = {"experiment": "e", "model": "m", "data_set": "d", "device": "cpu"}
    run.training_clock.seconds = 9.0
    with run.at_work():
        raise error
    is_anew = isinstance(error, FloatingPointError)  # it starts over, and so do its seconds
    assert (run.training_clock.seconds == 0) == is_anew
    said = capsys.readouterr().err
    assert said.startswith("head seed 0 failed: ") and said.count("\n") == 1 and line in said
    assert run.has_failed and line in run.record().status
    assert run.record().status.startswith("failed: ")


def test_a_failed_run_is_resumed_and_costs_no_other(arguments, monkeypatch, tmp_path):
    given = ["--methods", "lora", "head"]
    folder = tmp_path / "two" / "tiny"
    assert finetuning.main(arguments("one", *given)) == 0
    assert failing(monkeypatch, arguments("two", *given), FULL) == 1
    assert RunRecord.in_folder(folder / "head-seed0").is_finished
    assert RunRecord.in_folder(folder / "lora-seed0").status.startswith("failed: ")
    assert (folder / "lora-seed0" / STATE).exists()
    assert finetuning.main(arguments("two", *given)) == 0
    assert contents(tmp_path / "one" / "tiny") == contents(folder)


def test_the_seconds_of_an_earlier_start_are_the_runs(arguments, monkeypatch, tmp_path):
    given, folder = arguments("one", "--methods", "lora"), tmp_path / "one" / "tiny" / "lora-seed0"
    assert failing(monkeypatch, given, FULL) == 1
    saved = torch.load(folder / STATE)
    torch.save(saved | {"seconds": (200.0, 100.0)}, folder / STATE)
    assert finetuning.main(given) == 0
    record = RunRecord.in_folder(folder)
    assert 200 < record.training_seconds < 300 and 100 < record.evaluation_seconds < 200
    assert 300 < record.run_seconds < 400  # none counts twice


def test_a_finished_run_whose_line_cannot_be_printed_is_finished(arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(tqdm, "write", raising(FULL))
    finetuning.main(arguments("one", "--methods", "tfidf"))
    assert RunRecord.in_folder(tmp_path / "one" / "tiny" / "tfidf-seed0").is_finished


def test_only_failed_runs_may_have_other_constants(arguments, monkeypatch, tmp_path, capsys):
    given = arguments("one", "--methods", "lora", "--epochs", "1")
    assert failing(monkeypatch, given, torch.OutOfMemoryError("out of memory")) == 1
    other = [*given, "--batch-size", "8"]
    assert failing(monkeypatch, other, KeyboardInterrupt) == 130
    assert RunRecord.in_folder(tmp_path / "one" / "tiny" / "lora-seed0").status == "unfinished"
    assert finetuning.main(given) == 2
    assert "BATCH_SIZE = 8, not 16" in capsys.readouterr().err
    alone = arguments("two", *given[given.index("--methods") :], "--batch-size", "8")
    assert finetuning.main(other) == finetuning.main(alone) == 0
    assert contents(tmp_path / "one" / "tiny") == contents(tmp_path / "two" / "tiny")


def test_a_failed_run_that_another_process_took_and_left_is_taken(arguments, monkeypatch, tmp_path):
    given = arguments("one", "--methods", "tfidf", "lora")
    alone = arguments("one", "--methods", "lora")
    assert failing(monkeypatch, alone, torch.OutOfMemoryError("out of memory")) == 1
    todo = iter(prepared(given))
    assert next(todo).method.name == "tfidf"
    hostile.edit(tmp_path / "one" / "tiny" / "lora-seed0" / RECORD, status="unfinished")
    assert [run.method.name for run in todo] == ["lora"]


def test_what_has_failed_once_more_is_not_tried_by_every_process(arguments, monkeypatch):
    times, alone = count(1), arguments("one", "--methods", "lora")
    monkeypatch.setattr(runs, "utc", lambda: f"2020-01-01T00:00:{next(times):02}+00:00")
    assert failing(monkeypatch, alone, torch.OutOfMemoryError("out of memory")) == 1
    one, two = (prepared(arguments("one", "--methods", "tfidf", "lora")) for _ in range(2))
    first, second = iter(one), iter(two)
    assert next(second).method.name == "tfidf"
    with next(first).at_work():
        raise torch.OutOfMemoryError("out of memory")
    assert list(first) == [] == list(second)


def test_a_state_of_another_version_fails_its_run_alone(arguments, monkeypatch, tmp_path, capsys):
    given, folder = arguments("one", "--methods", "lora", "head"), tmp_path / "one" / "tiny"
    assert failing(monkeypatch, given, KeyboardInterrupt) == 130
    state = torch.load(path := folder / "lora-seed0" / STATE)
    del state["random"]
    torch.save(state, path)
    assert finetuning.main(given) == 1
    assert "it is damaged, or written by another version: delete it" in capsys.readouterr().err
    assert RunRecord.in_folder(folder / "lora-seed0").has_failed
    assert RunRecord.in_folder(folder / "head-seed0").is_finished


def test_a_rate_that_diverges_is_left_out_and_the_others_are_tried(arguments, tmp_path, capsys):
    rates = ["--learning-rates", "head=1e15,0.01,0.1"]
    assert finetuning.main(arguments("one", "--methods", "head", *rates)) == 0
    record = RunRecord.in_folder(tmp_path / "one" / "tiny" / "head-seed0")
    assert list(record.rates_tried) == ["1000000000000000.0", "0.01", "0.1"]
    losses = {float(rate): loss for rate, loss in record.rates_tried.items() if loss is not None}
    assert record.learning_rate == min(losses, key=losses.get) < 1
    assert "at learning rate 1e+15" in capsys.readouterr().out
    row = pd.read_csv(tmp_path / "one" / "tiny" / "runs.csv").iloc[0]
    assert row["learning_rate"] == record.learning_rate
    ends = min(map(float, record.rates_tried)), max(map(float, record.rates_tried))
    assert row["is_rate_at_edge"] == (record.learning_rate in ends)


def test_the_seconds_of_a_learning_rate_that_diverges_count(tmp_path):
    run = run_of(tmp_path)
    with pytest.raises(FloatingPointError) as caught, run.training_clock:
        time.sleep(0.01)
        raise FloatingPointError("the loss is nan")
    run.history = [{"learning_rate": rate, "validation_loss": 1.0} for rate in (0.01, 0.1)]
    run.leave_out(0.1, caught.value)
    assert run.training_clock.seconds > 0.009
    assert pd.read_csv(run.folder / "history.csv")["learning_rate"].tolist() == [0.01]
    run.leave_out(0.01, caught.value)
    assert not (run.folder / "history.csv").exists()


def test_a_combination_that_cannot_be_written_is_the_exit_status(arguments, monkeypatch, capsys):
    monkeypatch.setattr(work, "save_combination", raising(FULL))
    methods = ["--methods", "tfidf", "probe", "probe+tfidf"]
    assert finetuning.main(arguments("one", *methods)) == 1
    assert "probe+tfidf seed 0 failed" in capsys.readouterr().err


def test_a_damaged_file_of_a_finished_run_stops_no_other_and_is_told(arguments, tmp_path, capsys):
    given = arguments("one", "--methods", "tfidf", "--labels", "60", "--seeds", "0", "1")
    assert finetuning.main(given) == 0
    file = tmp_path / "one" / "tiny" / "tfidf-seed0" / "predictions.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    assert finetuning.main([*given, "--methods", "tfidf", "head", "head+tfidf", "lora"]) == 2
    error = capsys.readouterr().err
    assert error.count("head+tfidf seed 0 failed: ") == 1 and "has lost rows; delete" in error
    for run in ("head-seed0", "head-seed1", "head+tfidf-seed1", "lora-seed0", "lora-seed1"):
        assert RunRecord.in_folder(file.parents[1] / run).is_finished


def test_without_any_finite_loss_a_run_starts_anew(arguments, monkeypatch, tmp_path, capsys):
    given = arguments("one", "--methods", "lora", "tfidf", "--epochs", "1")
    assert failing(monkeypatch, given, FloatingPointError("the loss is nan at step 9")) == 1
    assert "lora seed 0: the loss is nan at step 9 at learning rate" in capsys.readouterr().out
    folder = tmp_path / "one" / "tiny"
    status = RunRecord.in_folder(folder / "lora-seed0").status
    assert status.startswith("failed: the loss is not finite at any learning rate")
    assert RunRecord.in_folder(folder / "tfidf-seed0").is_finished
    assert not (folder / "lora-seed0" / STATE).exists()
    assert finetuning.main(given) == 0


def test_a_gpu_that_others_fill_is_one_line(arguments, monkeypatch, capsys):
    full = torch.OutOfMemoryError("CUDA out of memory.")
    monkeypatch.setattr(setup, "prepare", raising(full))
    assert finetuning.main(arguments("one")) == 1
    assert capsys.readouterr().err.startswith("stopped: out of memory; free some (CUDA_VIS")


def test_a_failure_that_cannot_be_recorded_is_the_exit_status(arguments, monkeypatch, capsys):
    monkeypatch.setattr(finetuning, "train", raising(FULL))
    monkeypatch.setattr(RunRecord, "write", raising(FULL))
    assert finetuning.main(arguments("one", "--methods", "head")) == 1
    assert "head seed 0 failed: " in capsys.readouterr().err


@pytest.mark.parametrize("place", [checkpoint, runs])
def test_a_full_disk_is_an_error_of_the_file_system_and_so_one_line(place, monkeypatch, tmp_path):
    """Of torch and safetensors it would be an error of their own."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    monkeypatch.setattr(place, "replacing", lambda _: nullcontext(Path("/dev/full")))
    with pytest.raises(OSError, match="No space left"):
        if place is checkpoint:
            checkpoint.save_tensors({"a": torch.ones(3)}, tmp_path / "t")
        else:
            run_of(tmp_path).save(in_training(HeadOnlyModel(tiny().float()), settings(), 6))
