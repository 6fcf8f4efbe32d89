"""A killed experiment goes on where it was, and its files are those of an undisturbed one."""

import io
import json
import multiprocessing
import random
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout, suppress

import pandas as pd
import pytest
import torch
from conftest import tiny

import finetuning
import resume
from evaluation.records import read_csv
from modeling import METHODS

TIMES = ["training_seconds", "examples_per_second", "tokens_per_second", "peak_memory_mib"]


@pytest.fixture
def arguments(model_folder, reviews_csv, tmp_path):
    fixed = ["--experiment", "tiny", "--model", model_folder, "--dataset", reviews_csv]
    fixed += ["--max-tokens", "12", "--epochs", "4", "--batch-size", "16", "--patience", "2"]
    fixed += ["--lora-dropout", "0.1", "--learning-rates", "head=0.01", "lora=0.01", "full=0.003"]

    def given(results, *more):
        return [str(part) for part in (*fixed, "--results", tmp_path / results, *more)]

    return given


def main(arguments, output):
    """The command in a process of its own: its exit status, and standard error in a file."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open(output, "a") as file, redirect_stderr(file), redirect_stdout(io.StringIO()):
        sys.exit(finetuning.main(arguments))


@pytest.fixture
def start(tmp_path):
    """Start the command in a real process, forked from one that has its imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetuning"])

    def begin(arguments):
        process = context.Process(target=main, args=(arguments, tmp_path / "stderr"), daemon=True)
        process.start()
        return process

    return begin


def contents(folder):
    """What the experiment left, times apart: tables, and the bytes of every other result."""
    tables = {
        name: read_csv(folder / name).drop(columns=TIMES + ["seconds"], errors="ignore")
        for name in ("runs.csv", "history.csv", "changes.csv")
    }
    files = [*folder.glob("predictions/*"), *folder.glob("checkpoints/*/*")]
    return tables, {str(file.relative_to(folder)): file.read_bytes() for file in files}


def opened(process, folder, before=0):
    """Wait until the process has opened its experiment; returns when that was, in file time."""
    about = folder / "experiment.json"
    while process.is_alive():
        with suppress(FileNotFoundError):
            if (now := about.stat().st_mtime_ns) > before:
                return now
        time.sleep(0.01)
    return before


def test_killed_at_random_moments_it_ends_with_the_same_files(arguments, start, tmp_path):
    methods = ("--methods", "tfidf", "head", "lora", "full", "--epochs", "30", "--patience", "20")
    one, two = (tmp_path / name / "tiny" for name in ("one", "two"))
    process = start(arguments("one", *methods))
    opened(process, one)
    begun = time.monotonic()
    while process.is_alive() and len(read_csv(one / "runs.csv")) < 4:
        time.sleep(0.02)
    duration = time.monotonic() - begun
    process.join()
    assert process.exitcode == 0
    moments, kills, within_runs, before = random.Random(0), 0, 0, 0
    while True:
        process = start(arguments("two", *methods))
        if kills < 15:
            before = opened(process, two, before)
            process.join(moments.uniform(0, duration / 3))
            kills += process.is_alive()
            process.kill()
        process.join()
        within_runs += len(list(two.rglob(resume.UNDER_WAY)))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "stderr").read_text()
    assert kills >= 5 and within_runs >= 2
    tables, files = contents(one)
    others, other_files = contents(two)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, others[name], check_exact=True)
    assert files == other_files
    assert not list(two.rglob("*.part")) and not any("under" in f for f in files)
    print(f"{kills} kills survived, {within_runs} of them between the epochs of a run")


def test_a_terminated_run_keeps_its_epochs_and_says_how_to_go_on(arguments, start, tmp_path):
    given = arguments("one", "--methods", "full", "--epochs", "500", "--patience", "500")
    process = start(given)
    state = tmp_path / "one" / "tiny" / "checkpoints" / "full-seed0" / resume.UNDER_WAY
    while process.is_alive() and not state.exists():
        time.sleep(0.02)
    process.terminate()
    process.join()
    assert process.exitcode == 130 and state.exists()
    error = (tmp_path / "stderr").read_text()
    assert error.count("\n") == 1 and "go on with: python finetuning.py --experiment tiny" in error
    assert finetuning.main([*given, "--epochs", "3"]) == 2  # what is there is of other constants


def test_a_second_process_on_the_same_folder_is_refused(arguments, start, tmp_path, capsys):
    given = arguments("one", "--methods", "full", "--epochs", "500", "--patience", "500")
    process = start(given)
    while process.is_alive() and not (tmp_path / "one" / "tiny" / "experiment.json").exists():
        time.sleep(0.02)
    assert finetuning.main([*given, "--fresh"]) == 2
    error = capsys.readouterr().err
    assert "another process works on" in error and error.count("\n") == 1
    process.kill()
    process.join()
    assert finetuning.main(arguments("one", "--methods", "head", "--fresh")) == 0


def test_state_comes_back_to_the_last_bit(tmp_path):
    path, history = tmp_path / resume.UNDER_WAY, [{"epoch": 1, "validation_loss": 1 / 3}]
    models = [METHODS["lora"](tiny().float(), rank=2) for _ in range(2)]
    parts = []
    for model in models:
        optimizer = torch.optim.AdamW(model.trainable_parameters().values(), 0.1)
        parts.append((optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)))
    for parameter in models[0].trainable_parameters().values():
        parameter.grad = torch.randn_like(parameter)
    parts[0][0].step(), parts[0][1].step()
    resume.save(path, models[0], *parts[0], history, 0.1 + 0.2)
    drawn = torch.rand(3)
    assert resume.load(path, models[1], *parts[1]) == (history, 0.1 + 0.2)
    assert torch.equal(torch.rand(3), drawn)
    for one, two in zip(*(m.trainable_parameters().values() for m in models), strict=True):
        assert torch.equal(one, two)
        for name, number in parts[0][0].state[one].items():
            assert torch.equal(number, parts[1][0].state[two][name])
    assert parts[0][1].get_last_lr() == parts[1][1].get_last_lr() == [pytest.approx(0.09)]
    assert parts[1][0].param_groups[0]["lr"] == parts[0][0].param_groups[0]["lr"]
    json.dumps(history)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged .* delete it to start its run anew"):
        resume.load(path, models[1], *parts[1])
