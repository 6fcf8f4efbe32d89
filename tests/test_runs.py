"""A run is a folder: killed, started twice or started over, an experiment's files are the same."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import hostile
import pandas as pd
import pytest
import torch
from huggingface_hub import constants

import finetuning
import hardware
from boundary import BadInput
from evaluation import report
from experiment import parse, queue, setup
from experiment.runs import LOCK, STATE, held
from records import RECORD, RunRecord

# What a second time changes: seconds, and what the machine did meanwhile.
TIMES = ["training_seconds", "evaluation_seconds", "run_seconds", "peak_memory_mib"]
TIMES += ["other_load", "seconds", "shared_seconds", "started", "code"]
VARIANT = "lora(rank=2, targets=('q', 'v'), blocks=1)"

pytestmark = pytest.mark.usefixtures("without_figures")


def main(arguments, output):
    """The command in a process of its own: its exit status, and what it says in files."""
    torch.set_num_threads(1)
    report.draw = lambda results: {}  # most of the time of a tiny experiment
    # A cache of the experiment's own: the frozen blocks' states are made, and killed, in each.
    constants.HF_HOME = arguments[arguments.index("--results") + 1] + "-cache"
    with (
        open(output / "stderr", "a") as error,
        open(output / "stdout", "a") as out,
        redirect_stderr(error),
        redirect_stdout(out),
    ):
        sys.exit(finetuning.main(arguments))


@pytest.fixture
def start(tmp_path):
    """Start the command in a real process, forked from one that has its imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetuning"])

    def begin(arguments):
        process = context.Process(target=main, args=(arguments, tmp_path), daemon=True)
        process.start()
        return process

    return begin


def contents(folder):
    """What the experiment left, times apart: tables, records, and the bytes of all else."""
    kept = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".csv" and path.name != "predictions.csv":
            table = pd.read_csv(path)
            kept[name] = table.drop(columns=TIMES, errors="ignore").to_csv()
        elif path.name == RECORD:
            record = json.loads(path.read_text())
            kept[name] = {key: value for key, value in record.items() if key not in TIMES}
        elif path.suffix in (".csv", ".safetensors") or path.name == "checkpoint.json":
            kept[name] = path.read_bytes()
        elif path.name not in ("experiment.json", "report.md", "report.html", LOCK):
            kept[name] = path.suffix  # figures show times
    return kept


def prepared(arguments):
    """The queue of a start's runs."""
    return setup.prepare(parse(vars(finetuning), arguments))


def waiting(condition, process):
    while process.is_alive() and not condition():
        time.sleep(0.01)


def waiting_for_an_evaluation(folder, process):
    def written():
        return {path: path.stat().st_mtime_ns for path in folder.glob("*/history.csv")}

    before = written()
    waiting(lambda: written() != before, process)


def test_killed_at_random_moments_it_ends_with_the_same_files(arguments, start, tmp_path):
    given = ("--methods", "tfidf", "lora", VARIANT, "--epochs", "8", "--patience", "8")
    one, two = (tmp_path / name / "tiny" for name in ("one", "two"))
    process = start(arguments("one", *given))
    process.join()
    assert process.exitcode == 0, (tmp_path / "stderr").read_text()
    moments, kills, within_runs = random.Random(0), 0, 0
    while True:
        process = start(arguments("two", *given))
        if kills < 4:
            for _ in range(moments.randint(0, 10)):
                waiting_for_an_evaluation(two, process)
            process.join(moments.uniform(0, 0.1))
            kills += process.is_alive()
            process.kill()
        process.join()
        within_runs += len(list(two.rglob(STATE)))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "stderr").read_text()
    assert kills == 4 and within_runs >= 1
    assert contents(one) == contents(two)
    assert not list(two.rglob(".*.part-*")) and not list(two.rglob(STATE))


def test_two_processes_share_the_runs_and_end_with_the_files_of_one(arguments, start, tmp_path):
    given = ("--methods", "tfidf", "lora", VARIANT, "--seeds", "0", "1")
    processes = [start(arguments("two", *given)) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert finetuning.main(arguments("one", *given)) == 0
    assert contents(tmp_path / "one" / "tiny") == contents(tmp_path / "two" / "tiny")


def test_killed_before_any_file_is_written_it_ends_the_same(arguments, monkeypatch, tmp_path):
    """The first of two learning rates is the better one: its weights must stay."""
    monkeypatch.setattr(setup, "summarise", lambda _: 0)
    given = ("--methods", "lora", "--epochs", "1", "--learning-rates", "lora=0.03,0.00001")
    replace, replaced = os.replace, []

    def counting(old, new, last=None):
        replaced.append(Path(new).name)
        if len(replaced) == last:
            raise KeyboardInterrupt
        return replace(old, new)

    def predictions(results):
        return (tmp_path / results / "tiny" / "lora-seed0" / "predictions.csv").read_bytes()

    monkeypatch.setattr(os, "replace", counting)
    assert finetuning.main(arguments("whole", *given)) == 0
    moments = [i for i, name in enumerate(replaced, 1) if name == STATE or "candidate" in name]
    assert finetuning.main(arguments("alone", *given[:-1], "lora=0.03")) == 0
    assert predictions("alone") == predictions("whole")
    assert len(moments) > 10
    for moment in moments:
        replaced.clear()
        monkeypatch.setattr(os, "replace", partial(counting, last=moment))
        assert finetuning.main(arguments(f"{moment}", *given)) == 130
        assert finetuning.main(arguments(f"{moment}", *given)) == 0
        assert predictions(f"{moment}") == predictions("whole")


def test_a_baseline_that_no_seed_changes_runs_once_whatever_seeds_come_later(arguments, tmp_path):
    for results, seeds, labels in (("all", "01", "999"), ("all", "2", "999"), ("few", "3", "50")):
        methods = ("probe", "tfidf", "probe+tfidf", "tfidf(labels=0.5)", "head")
        given = ("--methods", *methods, "--labels", labels, "--seeds", *seeds)
        assert finetuning.main(arguments(results, *given)) == 0
    # The seed decides which half.
    for results, seeds, halves in (("all", [0], [0, 1, 2]), ("few", [3], [3])):
        runs = pd.read_csv(tmp_path / results / "tiny" / "runs.csv")
        for method in ("tfidf", "probe+tfidf"):
            assert runs.loc[runs["method"] == method, "seed"].tolist() == seeds
        assert runs.query("method == 'tfidf(labels=0.5)'")["seed"].tolist() == halves
        page = (tmp_path / results / "tiny" / "report.md").read_text()
        assert ("another training sample" in page) == (results == "few")


def test_the_seed_decides_which_share_where_validation_texts_are_given_too(arguments, tmp_path):
    rows = [(f"text {n} of {'ab'[n % 2]}", "ab"[n % 2]) for n in range(150)]
    for place, split in enumerate(("train", "validation", "test")):
        part = pd.DataFrame(rows[50 * place : 50 * place + 50], columns=["text", "label"])
        part.to_csv(tmp_path / f"{split}.csv", index=False)
    given = ["--dataset", str(tmp_path), "--methods", "tfidf(labels=0.28)", "--seeds", "0", "1"]
    queue = prepared(arguments("one", *given))
    parts = [queue.data.labelled(run) for run in queue.runs]
    assert parts[0].rows.tolist() != parts[1].rows.tolist()
    # In proportion, and of 50 texts 14, though 0.28 * 50 is a little more in float64.
    assert [part.labels.bincount().tolist() for part in parts] == [[14, 14]] * 2


def test_a_combination_is_made_again_when_a_part_has_run_again(arguments, tmp_path):
    given = arguments("one", "--methods", "tfidf", "head", "head+tfidf")
    assert finetuning.main(given) == 0
    record = tmp_path / "one" / "tiny" / "head+tfidf-seed0" / RECORD
    assert finetuning.main(given) == 0
    hostile.edit(record, started="2020-01-01T00:00:00+00:00")  # before its parts
    assert finetuning.main(given) == 0
    assert not RunRecord.read(record).started.startswith("2020")


def test_runs_that_other_code_has_made_are_told(arguments, tmp_path, monkeypatch, capsys):
    methods = []
    for method, code in (("probe", "a"), ("tfidf", "b"), ("probe+tfidf", "b"), ("head", None)):
        methods += [method]  # None: without git
        monkeypatch.setattr(hardware, "commit", lambda code=code: code)
        assert finetuning.main(arguments("one", "--methods", *methods)) == 0
        is_told = "warning: runs were made, or begun, by other code" in capsys.readouterr().out
        assert is_told == (code == "b")
    monkeypatch.setattr(hardware, "commit", lambda: "b")
    hostile.edit(tmp_path / "one" / "tiny" / "tfidf-seed0" / RECORD, code="a", status="unfinished")
    assert finetuning.main(arguments("one", "--methods", "tfidf")) == 0
    assert "warning: runs were made, or begun, by other code" in capsys.readouterr().out


def test_two_processes_that_start_at_once_are_both_in_experiment_json(arguments, tmp_path):
    several = ["tfidf", "probe", "probe+tfidf"], ["tfidf", "probe", "head"]
    one, two = (prepared(arguments("one", "--methods", *methods)) for methods in several)
    left = iter(one), iter(two)  # a queue holds its run as long as it is there
    assert [next(each).method.name for each in left] == ["tfidf", "probe"]
    about = json.loads((tmp_path / "one" / "tiny" / "experiment.json").read_text())
    names = {*several[0], *several[1]}
    assert {*about["runs"]} == {f"{name}-seed0" for name in names}
    assert {*about["constants"]["methods"]} == names


@pytest.mark.parametrize("moment", ["before its record", "after its record"])
def test_a_run_killed_at_its_end_is_not_trained_again(arguments, monkeypatch, moment, tmp_path):
    given = arguments("one", "--methods", "lora", "--epochs", "1")
    folder = tmp_path / "one" / "tiny" / "lora-seed0"
    monkeypatch.setattr(setup, "summarise", lambda _: 0)
    stopped, write = [], RunRecord.write

    def write_or_stop(record, path):
        if stopped or not record.is_finished:
            return write(record, path)
        stopped.append(path)
        if moment == "after its record":
            write(record, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "write", write_or_stop)
    assert finetuning.main(given) == 130
    assert (folder / STATE).exists()
    monkeypatch.setattr(finetuning, "train_part", None)
    assert finetuning.main(given) == 0
    assert (folder / RECORD).exists() and not (folder / STATE).exists()


def test_a_run_that_another_process_holds_is_left_and_kept(arguments, start, tmp_path, capsys):
    given = arguments("one", "--methods", "tfidf", "full", "--epochs", "500", "--patience", "500")
    process, folder = start(given), tmp_path / "one" / "tiny"
    waiting((folder / "full-seed0" / STATE).exists, process)
    assert finetuning.main([*given, "--fresh"]) == 2
    error = capsys.readouterr().err
    assert "another process is at work on" in error and error.count("\n") == 1
    assert (folder / "full-seed0" / STATE).exists()
    assert finetuning.main(given) == 0
    assert "Other processes are at work on full-seed0" in capsys.readouterr().out
    fails = ["--methods", "lora(learning_rate=1e30)", "--epochs", "500", "--patience", "500"]
    assert finetuning.main(arguments("one", *fails)) == 0  # torchrun would end the other process
    process.terminate()
    process.join()
    assert process.exitcode == 130 and (folder / "full-seed0" / STATE).exists()
    error = (tmp_path / "stderr").read_text()
    assert error.count("\n") == 1
    assert "what is finished is kept; resume with: python finetuning.py --preset" in error
    assert pd.read_csv(folder / "runs.csv")["method"].tolist() == [
        "tfidf",
        "lora(learning_rate=1e+30)",
    ]
    assert (folder / "report.md").exists()
    assert finetuning.main([*given, "--epochs", "3"]) == 2  # what is there has other constants
    assert finetuning.main(arguments("one", "--methods", "tfidf", "--fresh")) == 0
    assert not (folder / "full-seed0").exists()


def test_a_run_is_taken_while_nobody_looks_who_is_at_work(arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(setup, "summarise", lambda _: 0)
    looking = []

    @contextmanager
    def taken(lock):
        with held(lock.parent.parent / LOCK) as free:
            looking.append(free)
        with held(lock) as free:
            yield free

    monkeypatch.setattr(queue, "held", taken)
    assert finetuning.main(arguments("one", "--methods", "tfidf", "head")) == 0
    assert len(looking) >= 2 and not any(looking)


def test_starting_over_sets_everything_aside_and_loses_nothing(arguments, tmp_path, capsys):
    folder, given = tmp_path / "one" / "tiny", arguments("one", "--methods", "tfidf")
    (folder / "head-seed0").mkdir(parents=True)
    mine = folder / "head-seed0" / "mine.txt"
    mine.write_text("mine")
    assert finetuning.main([*given, "--fresh"]) == 0  # no experiment yet: nothing moves
    assert mine.exists()
    before = contents(folder)
    assert finetuning.main([*given, "--labels", "50", "--fresh"]) == 0
    assert f"Set aside: what was there is in {folder / 'earlier-1'}" in capsys.readouterr().out
    assert contents(folder / "earlier-1") == before and not (folder / "head-seed0").exists()
    assert report.main([str(folder / "earlier-1")]) == 0
    assert finetuning.main([*given, "--fresh"]) == 0
    assert {path.name for path in folder.glob("earlier-*")} == {"earlier-1", "earlier-2"}
    rest = {name: value for name, value in contents(folder).items() if "earlier" not in name}
    assert rest == {name: value for name, value in before.items() if "mine" not in name}


def test_with_folds_the_texts_are_those_that_all_of_them_test_whatever_the_seeds(arguments):
    given = arguments("one", "--methods", "tfidf", "--folds", "5", "--labels", "20", "--seeds", "3")
    for most, texts, told in (("all", 120, "each text is tested once"), ("7", 35, "at most 7")):
        about = prepared([*given, "--test-examples", most]).data.about()
        assert about["texts"] == texts and any(told in note for note in about["notes"])


def test_with_folds_the_share_truncated_and_the_groups_are_of_all_of_them(arguments, tmp_path):
    rows = [("word " * (20 if n < 10 else 5) + str(n), "ab"[n % 2], n // 3) for n in range(60)]
    frame = pd.DataFrame(rows, columns=["text", "label", "who"])
    frame.to_csv(path := tmp_path / "own.csv", index=False)
    given = ["--dataset", str(path), "--methods", "tfidf", "--folds", "3", "--seeds", "0", "1", "2"]
    about = prepared(arguments("one", *given, "--group-column", "who")).data.about()
    assert about["test_share_truncated"] == 10 / 60 and about["groups"] == {"tested": 20}


def test_a_run_that_another_process_has_finished_meanwhile_is_not_trained_again(arguments):
    left = iter(prepared(arguments("one", "--methods", "head", "tfidf")))
    assert next(left).method.name == "head"
    assert finetuning.main(arguments("one", "--methods", "tfidf")) == 0
    assert list(left) == []


def test_a_run_that_another_process_holds_is_taken_when_that_has_died(arguments, tmp_path):
    left = iter(prepared(arguments("one", "--methods", "head", "lora", "tfidf")))
    with held(tmp_path / "one" / "tiny" / "head-seed0" / LOCK):
        assert next(left).method.name == "lora"
        assert next(left).method.name == "tfidf"
    assert [run.method.name for run in left] == ["head"]


def test_a_process_with_other_constants_stops_when_it_sees_a_run(arguments, tmp_path):
    given = arguments("one", "--methods", "head", "--seeds", "0", "1", "2")
    one, other = prepared(given), prepared([*given, "--weight-decay", "0.5"])
    runs = iter(other)
    assert next(runs).seed == 0
    with pytest.raises(BadInput, match="WEIGHT_DECAY = 0.5, not 0.01"):
        next(iter(one))
    with pytest.raises(BadInput, match="WEIGHT_DECAY"):
        one.check()  # and so it writes no page of two
    assert not (tmp_path / "one" / "tiny" / "runs.csv").exists()
