"""Many processes on one experiment, which torchrun starts: the numbers are those of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_runs import contents

import finetuning
import hardware
from experiment import processes, state_cache

LIMIT = 300  # seconds
TORCHRUN = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "RANK": "1"}


@pytest.fixture
def under_torchrun(monkeypatch):
    """As the second of three processes."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)


def test_threads_are_divided_among_the_processes_of_a_machine(under_torchrun, monkeypatch):
    monkeypatch.setattr(processes, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for given in ("1", "4"):  # 1 is torchrun's choice, where the user has made none
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        processes.take_share()
    assert threads == [2]


def test_each_process_of_a_machine_has_a_gpu_of_its_own(under_torchrun, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for place in range(3):
        monkeypatch.setenv("LOCAL_RANK", str(place))
        processes.take_share()
    assert taken == [0, 1, 0]


def test_starting_over_is_refused_under_torchrun(under_torchrun, arguments, capsys):
    assert finetuning.main(arguments("one", "--fresh")) == 2
    error = capsys.readouterr().err
    assert "--fresh is for" in error and error.count("\n") == 1


# In the first of torchrun's attempts the second process dies by itself, while both have a run.
SCRIPT = """
import os, signal, sys, time
sys.path[0] = {folder!r}
import finetuning, torch
import hardware
from evaluation import report
from experiment import Run, processes
hardware.compute_type = lambda device: torch.float32
processes.cpu_count = lambda: 2
report.draw = lambda results: {{}}
save = Run.save
def last(run, state):
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        while len(list(run.folder.parent.glob("*/.lock"))) < 2:
            time.sleep(0.01)
        if os.environ["RANK"] == "1" and len(state.history) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    save(run, state)
Run.save = last
sys.exit(finetuning.main())
"""


def test_torchrun_restarts_after_a_kill_and_ends_with_the_files_of_one(
    arguments, monkeypatch, tmp_path, without_figures
):
    given = ["--methods", "lora", "full", "tfidf"]
    given += ["--epochs", "3", "--evaluations-per-epoch", "1"]
    for module in (hardware, state_cache):
        monkeypatch.setattr(module, "compute_type", lambda device: torch.float32)
    assert finetuning.main(arguments("one", *given)) == 0
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
    for line in ("Experiment tiny", "Texts: ", "Runs to do: "):
        assert done.stdout.count(line) == 2  # once in each of the two attempts
    for run in ("lora seed 0: test", "full seed 0: test", "tfidf seed 0: test"):
        assert done.stdout.count(run) == 1
    assert contents(tmp_path / "one" / "tiny") == contents(tmp_path / "many" / "tiny")
