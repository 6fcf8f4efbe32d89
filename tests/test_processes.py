"""Many processes on one experiment: each takes runs, the numbers are those of one process.

The processes are real, with the environment that torchrun gives; the last test starts torchrun.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import test_runs
import torch
import torch.distributed as dist
from test_runs import VARIANT, contents

import finetuning
import hardware
from experiment import Run, processes, setup, state_cache
from experiment.runs import LOCK

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
    hardware.compute_type = state_cache.compute_type = lambda device: torch.float32
    folder.mkdir(exist_ok=True)
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
    enter(place, count, port, folder / f"process{place}")
    if change:
        change(place)
    test_runs.main(given, Path())


def said(folder, name):
    """What each process wrote to "stdout" or "stderr"."""
    return [path.read_text() for path in sorted(folder.glob(f"process*/{name}"))]


def together(place):
    """Both take a run before one of them has ended its first, and both end before they look."""
    finish, summarise = Run.finish, setup.summarise

    def finish_later(run, *given):
        while len(list(run.experiment.glob(f"*/{LOCK}"))) < 2:
            time.sleep(0.01)
        finish(run, *given)

    def look_later(queue):
        while queue.at_work():
            time.sleep(0.01)
        return summarise(queue)

    Run.finish, setup.summarise = finish_later, look_later


def test_processes_that_take_runs_leave_the_files_of_one(arguments, tmp_path):
    given = ["--methods", "tfidf", "head", "lora", VARIANT]
    one = start(main, 1, tmp_path / "a", arguments("one", *given))
    assert finish(one) == [0]
    fresh = arguments("many", *given, "--fresh")  # deletes once, not once a process
    assert finish(start(main, 2, tmp_path / "b", fresh, together)) == [0, 0]
    assert contents(tmp_path / "one" / "tiny") == contents(tmp_path / "many" / "tiny")
    outputs = said(tmp_path / "b", "stdout")
    ended = [re.findall(r"^(\S.* seed \d): test accuracy", text, re.M) for text in outputs]
    assert len(ended[0] + ended[1]) == len({*ended[0], *ended[1]}) == 4  # every run once
    assert ended[0] and ended[1]
    for line in ("Experiment tiny", "Texts: ", "Written to "):
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


def test_threads_are_divided_among_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setattr(processes, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(dist, "rendezvous", lambda url: iter([(dist.HashStore(), 0, 3)]))
    for name, value in {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(processes, "_store", None)
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
        while len(list(run.experiment.glob("*/.lock"))) < 2:
            time.sleep(0.01)
        if os.environ["RANK"] == "1" and len(state.history) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    save(run, state)
Run.save = last
sys.exit(finetuning.main())
"""


def test_torchrun_restarts_after_a_kill_and_ends_with_the_files_of_one(arguments, tmp_path):
    given = ["--methods", "lora", "full", "--fresh"]
    given += ["--epochs", "3", "--evaluations-per-epoch", "1"]
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
