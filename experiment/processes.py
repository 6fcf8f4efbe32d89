"""One experiment in many processes, which torchrun starts: each takes runs of its own.

docs/many-processes.md says what they share. They meet in the experiment's folder alone, as commands
that were started one by one do (queue.py). torchrun decides which GPU a process has, and which one
prints what all would. One process is the plain case, in which these functions change nothing.
"""

import os

import torch
from joblib import cpu_count


def launched() -> bool:
    """Whether torchrun has started this process, and others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and _number("WORLD_SIZE") > 1


def rank() -> int:
    """The place of this process among those that torchrun has started; 0 is the one that prints."""
    return _number("RANK") if launched() else 0


def quiet() -> bool | None:
    """What disables a progress bar: not being the process that prints, or None, not a terminal."""
    return rank() > 0 or None


def take_share() -> None:
    """Take a share of the machine: a GPU, or some of its threads."""
    if not launched():
        return
    if gpus := torch.cuda.device_count():
        torch.cuda.set_device(_number("LOCAL_RANK") % gpus)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's own choice
        torch.set_num_threads(max(1, cpu_count() // _number("LOCAL_WORLD_SIZE")))


def _number(name):
    return int(os.environ.get(name, 0))
