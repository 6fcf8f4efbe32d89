"""One experiment on many processes, which torchrun starts; one process is the plain case.

docs/many-processes.md says what they share. In a process that is alone, or shares no run, these
functions change nothing.

Processes wait for one another in `barrier`, `broadcast` and `all_reduce`, all in the same order.
One that fails says so in its next `barrier`, with which each of the three begins: none waits for it
in vain. One that ends closes its connections, which is a `ConnectionError` in the others.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from joblib import cpu_count
from torch import Tensor, nn

import hardware
from boundary import BadInput

LONGEST_WAIT = timedelta(days=7)  # a process that has ended is noticed at once

_store = None  # torchrun's; it outlives the processes


class FailedTogether(BadInput):
    """What failed in one process, raised in all of them."""


# ---------------------------------------------------------------------------- who is there


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


def world_size() -> int:
    """How many processes share each run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def leads() -> bool:
    """Whether this process writes the files of its runs."""
    return not dist.is_initialized() or dist.get_rank() == 0


def _number(name):
    return int(os.environ.get(name, 0))


def describe(device: torch.device) -> str:
    """The device, and how many of them share a run, in words."""
    each = hardware.describe(device)
    return f"{world_size()} processes, each {each}" if world_size() > 1 else each


# ---------------------------------------------------------------------------- set-up


def join() -> None:
    """Meet the other processes, and take a share of the machine: a GPU, or some of its threads."""
    global _store
    if not launched():
        return
    here, gpus = _number("LOCAL_WORLD_SIZE"), torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(_number("LOCAL_RANK") % gpus)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's own choice
        torch.set_num_threads(max(1, cpu_count() // here))
    _store, place, count = next(dist.rendezvous("env://"))
    if _number("GROUP_WORLD_SIZE") == 1:  # the store of one machine lives on after a restart
        _store = dist.PrefixStore(f"start {_number('TORCHELASTIC_RESTART_COUNT')}", _store)
    on_gpu = "nccl" if here <= gpus else "gloo"  # NCCL refuses two processes on one GPU
    backends = f"cpu:gloo,cuda:{on_gpu}" if gpus else "gloo"
    dist.init_process_group(
        backends, store=_store, rank=place, world_size=count, timeout=LONGEST_WAIT
    )


def leave() -> None:
    """Wait for all processes, and work alone from here on."""
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


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


# ---------------------------------------------------------------------------- together


def barrier(failure: str | None = None) -> None:
    """Wait for all processes. Raises `FailedTogether` in all of them where one gives a failure."""
    if not dist.is_initialized():
        return
    failed, reasons = torch.tensor(int(failure is not None)), [None] * world_size()
    with _connected():
        dist.all_reduce(failed, dist.ReduceOp.MAX)
        if failed:
            dist.all_gather_object(reasons, failure)
    if failed:
        raise FailedTogether(next(filter(None, reasons)))


@contextmanager
def together() -> Iterator[None]:
    """A `BadInput` of one process is raised in all of them; they leave the block together."""
    try:
        yield
    except FailedTogether:
        raise
    except BadInput as error:
        barrier(str(error))
        raise
    barrier()


def broadcast(value: Any) -> Any:
    """The first process's value, in all of them."""
    if not dist.is_initialized():
        return value
    barrier()
    values = [value]
    with _connected():
        dist.broadcast_object_list(values)
    return values[0]


def share(index: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """This process's part of the reviews at `index` (N,): each process has long and short ones."""
    if not dist.is_initialized():
        return index
    order = index[np.argsort(-lengths[index], kind="stable")]
    return order[dist.get_rank() :: world_size()]


def gradients(model: nn.Module) -> list[Tensor]:
    """The gradients of what is trained, zeros where this process had no review."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in trained]


def all_reduce(*tensors: Tensor) -> None:
    """Add up each tensor over all processes, in its place; they are exchanged as one."""
    if not dist.is_initialized():
        return
    barrier()
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _connected():
        dist.all_reduce(flat)
    for tensor, whole in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(whole.view_as(tensor))


def reseed(*seeds: int) -> None:
    """Give each process but the first other random numbers, which rank and `seeds` decide."""
    if not leads():
        own = np.random.SeedSequence([dist.get_rank(), *seeds]).generate_state(1, np.uint64)
        torch.manual_seed(int(own[0]))


@contextmanager
def _connected():
    try:
        yield
    except RuntimeError as error:
        line = str(error).partition("\n")[0]
        raise ConnectionError(f"another process has ended: {line}") from error
