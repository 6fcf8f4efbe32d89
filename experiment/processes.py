"""One experiment in many processes, which torchrun starts: each takes runs of its own.

docs/many-processes.md says what they share. One process is the plain case, in which these functions
change nothing. The processes meet through files, and through torchrun's key-value store: for who
opens the experiment's folder, and who is the last to end.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from joblib import cpu_count

from boundary import BadInput

LONGEST_WAIT = timedelta(days=7)  # torchrun ends all where one has ended

_store = None  # torchrun's; it outlives the processes


class RefusedElsewhere(BadInput):
    """The first process has refused the input, and said why."""


def launched() -> bool:
    """Whether torchrun has started this process, and others."""
    return dist.is_torchelastic_launched() and _number("WORLD_SIZE") > 1


def rank() -> int:
    """The place of this process among those that torchrun has started; 0 is the one that prints."""
    return _number("RANK") if launched() else 0


def restarted() -> bool:
    """Whether torchrun has started all processes anew, after one had ended."""
    return launched() and _number("TORCHELASTIC_RESTART_COUNT") > 0


def launcher() -> list[str]:
    """The command that starts such processes."""
    if not launched():
        return ["python"]
    nodes, here = _number("GROUP_WORLD_SIZE"), os.environ["LOCAL_WORLD_SIZE"]
    return ["torchrun", *(["--nnodes", str(nodes)] if nodes > 1 else []), "--nproc-per-node", here]


def quiet() -> bool | None:
    """What disables a progress bar: not being the process that prints, or None, not a terminal."""
    return rank() > 0 or None


def _number(name):
    return int(os.environ.get(name, 0))


def join() -> None:
    """Take a share of the machine: a GPU, or some of its threads."""
    global _store
    if not launched():
        return
    here, gpus = _number("LOCAL_WORLD_SIZE"), torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(_number("LOCAL_RANK") % gpus)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's own choice
        torch.set_num_threads(max(1, cpu_count() // here))
    _store, _, _ = next(dist.rendezvous("env://"))
    _store.set_timeout(LONGEST_WAIT)
    _store = dist.PrefixStore(f"start {_number('TORCHELASTIC_RESTART_COUNT')}", _store)


def first_does(act) -> None:
    """The first process does `act()`; the others wait until it is done.

    Raises `BadInput` in all of them where the first one's `act` has raised it.
    """
    if rank():
        _store.wait(["done"])
        if refused := _store.get("done").decode():
            raise RefusedElsewhere(refused)
        return
    refused = ""
    try:
        act()
    except BadInput as error:
        refused = str(error)
        raise
    finally:
        if _store is not None:
            _store.set("done", refused)


def first_to_print(what: str) -> bool:
    """Whether this process is to print what several might: the first that comes to it."""
    return _store is None or _count(what) in (1, None)


def last_to_end() -> bool:
    """Whether all others that torchrun has started have asked this before."""
    return _store is None or _count("ended") in (_number("WORLD_SIZE"), None)


def _count(what):
    """How many processes have come to it, this one included; None where torchrun has ended."""
    try:
        return _store.add(what, 1)
    except RuntimeError:
        return None
