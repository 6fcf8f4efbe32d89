"""Many processes on one experiment: the numbers of one process, and nothing hangs.

The processes are real, with the environment that torchrun gives; the last test starts torchrun.
"""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from conftest import tiny
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from test_runs import VARIANT, contents
from test_training import in_training, settings, tokenised

import finetuning
import hardware
import modeling
from evaluation import report
from experiment import Run, processes, results_folder, state_cache
from experiment.runs import LOCK, RECORD, STATE
from modeling import METHODS

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["finetuning"])
LIMIT = 300  # seconds


def enter(place, count, port, folder):
    """Make this process one of `count`, as torchrun does, with an output of its own."""
    signal.alarm(LIMIT)
    names = {"RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    names |= {"GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    names |= {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": 0}
    names |= {"TORCHELASTIC_USE_AGENT_STORE": True}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"OMP_NUM_THREADS": "2"}  # a user's own choice stays
    torch.set_num_threads(1)
    constants.HF_HOME = str(folder / "cache")
    hardware.compute_type = state_cache.compute_type = lambda device: torch.float32
    folder.mkdir(exist_ok=True)
    report.draw = lambda results: {}  # most of the time of a tiny experiment
    os.chdir(folder)


def start(target, count, folder, *more):
    """`count` processes that run `target` at once; returns them."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    folder.mkdir(exist_ok=True)
    begun = [
        CONTEXT.Process(target=target, args=(place, count, store.port, folder, *more), daemon=True)
        for place in range(count)
    ]
    for process in begun:
        process.start()
        process.store = store  # which outlives them, as torchrun's does
    return begun


def finish(begun):
    """Their exit statuses; a hang is killed by the alarm, whose status is -14."""
    for process in begun:
        process.join()
    return [process.exitcode for process in begun]


def main(place, count, port, folder, given, change=None):
    """The command in one of `count` processes; `change` acts on it before."""
    own = folder / f"process{place}"
    enter(place, count, port, own)
    if change:
        change(place)
    with (
        (own / "stderr").open("w") as error,
        (own / "stdout").open("w") as out,
        redirect_stderr(error),
        redirect_stdout(out),
    ):
        status = finetuning.main(given)
    sys.exit(status)


def said(folder, name):
    """What each process wrote to "stdout" or "stderr"."""
    return [path.read_text() for path in sorted(folder.glob(f"process*/{name}"))]


# ---------------------------------------------------------------- all share each run


def steps(place, count, port, folder, methods):
    """A dozen steps of each method in float64; predictions; the weights."""
    if count > 1:
        enter(place, count, port, folder)
        processes.join()
        assert dist.get_world_size() == count
    torch.set_default_dtype(torch.float64)
    finetuning.logits_of = lambda model, batch: model(*batch.tokens)
    for method in methods:
        save_file(after_steps(method), folder / f"{method}-{place}")


def after_steps(method):
    """The last batches are of one review."""
    options = settings("--batch-size", "4", "--micro-batch-tokens", "24", "--epochs", "3")
    model = METHODS[method](tiny(seed=1, classifier_dropout=0.0))
    split, few = tokenised(17), tokenised(2)  # fewer than there are processes
    state = in_training(model, options, len(split))
    measured = []
    for batches in finetuning.parts_of_training(split.lengths, options, seed=0):
        model.train()
        measured += [finetuning.step(state, split, index, options) for index in batches]
    tensors = dict(model.trainable_parameters()) | {"measured": torch.stack(measured)}
    tensors |= {f"{len(s)}": finetuning.predict(model, s, options) for s in (split, few)}
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


@pytest.mark.parametrize(("count", "methods"), [(2, tuple(METHODS)), (3, ("lora", "full"))])
def test_steps_on_shared_batches_are_those_of_one_process(tmp_path, count, methods):
    one = start(steps, 1, tmp_path / "one", methods)
    many = start(steps, count, tmp_path / "many", methods)
    assert finish(one + many) == [0] * (1 + count)
    for method, place in product(methods, range(count)):
        expected = load_file(tmp_path / "one" / f"{method}-0")
        found = load_file(tmp_path / "many" / f"{method}-{place}")
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert tensor.dtype == torch.float64
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-10)


def kill(place):
    """The second process dies in its fourth evaluation."""
    save = Run.save

    def last(run, state):
        if place == 1 and len(state.history) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        save(run, state)

    Run.save = last


def no_dropout(place):
    load = modeling.load_pretrained

    def pretrained(*given):
        model = load(*given)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model

    modeling.load_pretrained = pretrained


def kill_without_dropout(place):
    kill(place)
    no_dropout(place)


def trained_and_predicted(folder):
    """What the runs of an experiment ended with."""
    return {
        path.parent.name: (load_file(path), pd.read_csv(path.with_name("predictions.csv")))
        for path in (folder / "tiny").glob("*/trained.safetensors")
    }


def test_a_killed_run_resumed_by_another_number_of_processes_ends_the_same(arguments, tmp_path):
    given = ["--methods", "lora", "--parallel", "data", "--lora-dropout", "0"]
    one, many = tmp_path / "one", tmp_path / "many"
    assert finish(start(main, 1, tmp_path / "a", arguments("one", *given), no_dropout)) == [0]
    begun = start(main, 2, tmp_path / "b", arguments("many", *given), kill_without_dropout)
    assert finish(begun) == [1, -signal.SIGKILL]
    error = said(tmp_path / "b", "stderr")[0]
    assert error.count("\n") == 1 and "another process has ended" in error
    assert re.search(
        "resume with: torchrun --nproc-per-node 2 .*finetuning.py --experiment tiny", error
    )
    assert (many / "tiny" / "lora-seed0" / STATE).exists()
    assert finish(start(main, 3, tmp_path / "c", arguments("many", *given), no_dropout)) == [0] * 3
    (expected, labels), (found, others) = (
        trained_and_predicted(folder)["lora-seed0"] for folder in (one, many)
    )
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)
    np.testing.assert_allclose(others, labels, atol=1e-5)
    record = json.loads((many / "tiny" / "lora-seed0" / RECORD).read_text())
    assert record["device"].startswith("3 processes, each cpu")


def fail_once(place):
    """The last process has too little memory for LoRA, and another the loss of full."""
    classify = finetuning.logits_of

    def logits_of(model, batch):
        name = type(model).__name__
        if place == 1 and name == "LoRAModel":
            raise torch.OutOfMemoryError
        logits = classify(model, batch)
        return logits * float("nan") if place == 0 and name == "FullModel" else logits

    finetuning.logits_of = logits_of


def test_what_fails_a_run_on_one_process_fails_it_on_all_and_the_next_run_starts(
    arguments,
    tmp_path,
):
    given = arguments("many", "--methods", "tfidf", "lora", "full", "bitfit", "--parallel", "data")
    statuses = finish(start(main, 2, tmp_path / "b", given, fail_once))
    assert sorted(statuses) == [0, 1]  # of the last one: torchrun ends all others at a failure
    assert (tmp_path / "many" / "tiny" / "report.md").exists()
    records = {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in (tmp_path / "many").rglob(RECORD)
    }
    assert records.pop("lora-seed0").startswith("failed: out of memory; lower MICRO_BATCH")
    assert records.pop("full-seed0").startswith("failed: the loss is nan at step 1")
    assert records == {"tfidf-seed0": "finished", "bitfit-seed0": "finished"}
    first, second = said(tmp_path / "b", "stderr")
    assert first.count("\n") == 2 and second == ""  # one line a failure
    outputs = said(tmp_path / "b", "stdout")
    assert "2 processes, each cpu" in outputs[0]
    assert "".join(outputs).count("Written to ") == 1


def read_late(place):
    """The second process reads a run's best point after the first one."""
    load = Run.load_best

    def load_best(run, state):
        time.sleep(place)
        load(run, state)

    Run.load_best = load_best


def test_shared_runs_are_tuned(arguments, tmp_path):
    given = ["--methods", "bitfit", "--parallel", "data", "--tune", "--tuning-rates", "1"]
    assert finish(start(main, 2, tmp_path / "b", arguments("many", *given), read_late)) == [0, 0]
    table = pd.read_csv(tmp_path / "many" / "tiny-tuning" / "tuning.csv")
    assert table["status"].tolist() == ["finished"]


def dropout(place, count, port, folder):
    """The seeds of three parts of two runs."""
    enter(place, count, port, folder / f"process{place}")
    processes.join()
    seeds = []
    for run in (0, 1):
        torch.manual_seed(run)
        for evaluation in range(3):
            processes.reseed(run, evaluation)
            seeds.append(torch.rand(()).item())
    (folder / f"{place}.json").write_text(json.dumps(seeds))


def test_each_process_has_random_numbers_of_its_own_and_always_the_same(tmp_path):
    drawn = []
    for again in ("once", "twice"):
        assert finish(start(dropout, 2, tmp_path / again)) == [0, 0]
        drawn.append([json.loads((tmp_path / again / f"{i}.json").read_text()) for i in (0, 1)])
    assert drawn[0] == drawn[1]
    assert len({*drawn[0][0], *drawn[0][1]}) == 12  # the first one's go on as they were


# ---------------------------------------------------------------- each takes runs


def together(place):
    """Both take a run before one of them has ended its first, and both end before they look."""
    finish, look = Run.finish, results_folder.at_work

    def finish_later(run, *given):
        while len(list(run.series.folder.glob(f"*/{LOCK}"))) < 2:
            time.sleep(0.01)
        finish(run, *given)

    def look_later(folder):
        while names := look(folder):
            time.sleep(0.01)
        return names

    Run.finish, results_folder.at_work = finish_later, look_later


def test_processes_that_take_runs_leave_the_files_of_one(arguments, tmp_path):
    given = ["--methods", "tfidf", "head", "lora", VARIANT, "bitfit"]
    one = start(main, 1, tmp_path / "a", arguments("one", *given))
    assert finish(one) == [0]
    fresh = arguments("many", *given, "--fresh")  # deletes once, not once a process
    assert finish(start(main, 2, tmp_path / "b", fresh, together)) == [0, 0]
    assert contents(tmp_path / "one" / "tiny") == contents(tmp_path / "many" / "tiny")
    outputs = said(tmp_path / "b", "stdout")
    ended = [re.findall(r"^(\S.* seed \d): test accuracy", text, re.M) for text in outputs]
    assert len(ended[0] + ended[1]) == len({*ended[0], *ended[1]}) == 5  # every run once
    assert ended[0] and ended[1]
    for line in ("Experiment tiny", "Reviews: ", "Written to "):
        assert "".join(outputs).count(line) == 1
    assert "Experiment tiny" in outputs[0]


def print_late(place):
    """The first process comes last to what it has to say: torchrun would have ended it by then."""
    first, other = processes.first_to_print, Path("../process1/stderr")

    def first_to_print(what):
        while place == 0 and not (other.exists() and other.read_text()):
            time.sleep(0.01)
        return first(what)

    processes.first_to_print = first_to_print


def test_bad_input_is_one_line_from_the_first_to_come(arguments, tmp_path):
    for number, bad in enumerate((["--text-column", "body"], ["--methods", "lora(rank=0)"])):
        folder = tmp_path / f"{number}"
        assert finish(start(main, 2, folder, arguments("many", *bad), print_late)) == [2, 2]
        late, early = said(folder, "stderr")
        assert early.startswith("error: ") and early.count("\n") == 1 and late == ""


def other_constants(place):
    finetuning.PATIENCE += place


def test_processes_with_other_constants_are_refused_together(arguments, tmp_path):
    given = [a for a in arguments("many", "--methods", "head") if a not in ("--patience", "2")]
    assert finish(start(main, 2, tmp_path / "b", given, other_constants)) == [2, 2]
    errors = "".join(said(tmp_path / "b", "stderr"))
    assert "have different constants" in errors and errors.count("\n") == 1


def test_threads_are_divided_among_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setattr(processes, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(dist, "rendezvous", lambda url: iter([(None, 0, 3)]))
    monkeypatch.setattr(dist, "init_process_group", lambda *given, **options: None)
    for name, value in {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for given in ("1", "4"):  # 1 is torchrun's choice, where the user has made none
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        processes.join()
    assert threads == [2]


# In the first of torchrun's attempts the second process dies by itself.
SCRIPT = """
import os, signal, sys, time
sys.path[0] = {folder!r}
import finetuning, torch
import hardware
import modeling
from evaluation import report
from experiment import Run, processes
hardware.compute_type = lambda device: torch.float32
processes.cpu_count = lambda: 2
report.draw = lambda results: {{}}
save = Run.save
def last(run, state):
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        while len(list(run.series.folder.glob("*/.lock"))) < 2:
            time.sleep(0.01)
        if os.environ["RANK"] == "1" and len(state.history) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    save(run, state)
Run.save = last
sys.exit(finetuning.main())
"""


def test_torchrun_restarts_after_a_kill_and_ends_with_the_files_of_one(arguments, tmp_path):
    given = ["--methods", "lora", "full", "--fresh", "--evaluations-per-epoch", "1"]
    assert finish(start(main, 1, tmp_path / "a", arguments("one", *given))) == [0]
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=str(Path(finetuning.__file__).parent)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "--monitor-interval", "0.1", tmp_path / "script.py"]
    done = subprocess.run(
        [*command, *arguments("many", *given)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Runs to do: ") == 2  # and --fresh has deleted nothing the second time
    assert contents(tmp_path / "one" / "tiny") == contents(tmp_path / "many" / "tiny")
