"""The command in a process of its own, cheaply: forked off one that has imported the libraries.

Python takes about five seconds to import them. `finetuning.py` runs in the fork from its first
line, with a working folder, input, output and exit status of its own; a hang is killed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from conftest import reviews_frame

import finetuning

COMMAND = Path(finetuning.__file__)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
ANSWERS = "y\n" * 9  # on standard input, for whoever asks
LIMIT = 300  # seconds
SERVER = f"""
import gc, json, os, runpy, signal, sys
sys.path[0] = {str(COMMAND.parent)!r}  # wherever a fork goes
import finetuning, transformers.models.bert.modeling_bert
gc.collect()
gc.freeze()  # else each fork copies and frees all that the libraries hold: a second and a half
for line in sys.stdin:
    folder, arguments, environment = json.loads(line)
    source = os.open(f"{{folder}}/input", os.O_RDONLY)
    child = os.fork()
    if not child:
        signal.alarm({LIMIT})
        os.chdir(folder)
        os.environ |= environment
        os.dup2(source, 0)
        for name, number in ("output", 1), ("error", 2):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        sys.exit()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("it read its input" if os.lseek(source, 0, os.SEEK_CUR) else status, flush=True)
    os.close(source)
"""

KILLED = f"""
import sys
sys.path[0] = {str(COMMAND.parent)!r}
import finetuning
def kill(*_):
    raise KeyboardInterrupt
finetuning.evaluate = kill
sys.exit(finetuning.main())
"""  # trains, and ends before the test


class Outcome(NamedTuple):
    """What a start of the command left behind; a status below 0 is a signal's number."""

    status: int
    output: str
    error: str
    before: dict[str, bytes]  # the files below its folder of results, by their path
    after: dict[str, bytes]

    @property
    def written(self):
        """The paths of the files that are new or have changed."""
        return {path for path, data in self.after.items() if self.before.get(path) != data}


def files_of(folder):
    """What every file holds, by its path; a folder's path ends in a slash and holds nothing."""
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name if path.is_file() else f"{name}/": path.read_bytes() if path.is_file() else b""
        for name, path in paths.items()
    }


class Servers:
    """Pythons that have imported the libraries; one forks for each start of the command."""

    def __init__(self, count):
        self.processes, self.free = [], SimpleQueue()
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", SERVER],
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.processes.append(process)
            self.free.put(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.stdin.close()
            process.wait()

    def start(self, folder, arguments, environment=(), script=COMMAND):
        """Run the command in `folder`; its exit status, or `ValueError` where it reads input."""
        (folder / "input").write_text(ANSWERS)
        request = str(folder), [str(script), *map(str, arguments)], dict(environment)
        process = self.free.get()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())
        finally:
            self.free.put(process)


def start_plain(folder, arguments, environment=()):
    """Run the command in `folder` as a user does; returns its exit status."""
    (folder / "input").write_text(ANSWERS)
    with (
        (folder / "input").open() as source,
        (folder / "output").open("w") as output,
        (folder / "error").open("w") as error,
    ):
        status = subprocess.run(
            [sys.executable, COMMAND, *map(str, arguments)],
            cwd=folder,
            env=os.environ | ENVIRONMENT | dict(environment),
            stdin=source,
            stdout=output,
            stderr=error,
        ).returncode
        assert os.lseek(source.fileno(), 0, os.SEEK_CUR) == 0
    return status


def begin(root, model, servers):
    """Leave an earlier experiment in root/results; returns its arguments, but for methods, results.

    Two of its runs are finished, head and lora, and a third, bitfit, was killed at its end.
    """
    reviews_frame(60).to_csv(root / "reviews.csv", index=False)
    arguments = ["--experiment", "tiny", "--model", model, "--dataset", root / "reviews.csv"]
    arguments += ["--max-tokens", 12, "--epochs", 1, "--learning-rates", "head=0.01"]
    arguments += ["--blocks", "all"]
    here = [*arguments, "--results", root / "results", "--methods"]
    assert servers.start(root, [*here, "head", "lora"]) == 0, (root / "error").read_text()
    (root / "killed.py").write_text(KILLED)
    assert servers.start(root, [*here, "bitfit"], script=root / "killed.py") == 130
    return arguments
