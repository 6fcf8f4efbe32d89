"""The state of a run under way: killed at any moment, it goes on from its last finished epoch.

One safetensors file, written whole or not at all:

    trained.<name>              the trained tensors after that epoch
    optimizer.<i>.<name>        AdamW's numbers of parameter i
    random.cpu, random.cuda     PyTorch's generators
    (header) state              JSON: history, seconds, schedule, the optimiser's groups

The order of the data depends on seed and epoch alone, and early stopping on the history.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from modeling.checkpoint import copy_tensors

UNDER_WAY = "under_way.safetensors"


def save(path: Path, model, optimizer, schedule, history, seconds) -> None:
    """Write the state after the last epoch of `history` to `path`."""
    optimizer_state = optimizer.state_dict()
    tensors = {f"trained.{name}": p.detach() for name, p in model.trainable_parameters().items()}
    for i, numbers in optimizer_state["state"].items():
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in numbers.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    state = {
        "history": history,
        "seconds": seconds,
        "schedule": schedule.state_dict(),
        "groups": optimizer_state["param_groups"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, unfinished, {"state": json.dumps(state)})
    os.replace(unfinished, path)


def load(path: Path, model, optimizer, schedule) -> tuple[list[dict], float]:
    """Put the state of `path` back: (history, seconds so far); ([], 0.0) where there is none.

    Raises `ValueError` for a file that is damaged or of another model.
    """
    if not path.exists():
        return [], 0.0
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = json.loads(file.metadata()["state"])
        parts = {"trained": {}, "optimizer": {}, "random": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = tensor
        numbers = {}
        for name, tensor in parts["optimizer"].items():
            i, _, rest = name.partition(".")
            numbers.setdefault(int(i), {})[rest] = tensor
        history, seconds = state["history"], state["seconds"]
        schedule_state, groups = state["schedule"], state["groups"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start its run anew") from None
    copy_tensors(model, parts["trained"], str(path))
    optimizer.load_state_dict({"state": numbers, "param_groups": groups})
    schedule.load_state_dict(schedule_state)
    torch.set_rng_state(parts["random"]["cpu"])
    if "cuda" in parts["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["random"]["cuda"])
    return history, seconds
