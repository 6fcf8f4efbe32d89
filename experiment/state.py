"""The state of an unfinished run: killed at any moment, it resumes from its last evaluation.

One safetensors file, written whole or not at all:

    trained.<name>              the trained tensors
    best.<name>                 those of the best evaluation, unless it is the last one
    optimizer.<i>.<name>        AdamW's numbers of parameter i
    random.cpu, random.cuda     PyTorch's generators
    (header) state              JSON: history, seconds, the schedule, the scaler, AdamW's groups
    (header) digest             SHA-256 of all of that

The order of the data depends on seed and epoch alone, and early stopping on the history. The steps
stand in steps.csv beside it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from boundary import reading, replacing
from hardware import Clock
from modeling import PeftModel
from modeling.checkpoint import copy_tensors
from modeling.loading import digest_of


@dataclass
class State:
    """A model in training, and what training it has come to."""

    model: PeftModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler  # of the loss, where the device computes in float16
    clock: Clock
    history: list[dict] = field(default_factory=list)  # a row for each evaluation on validation
    steps: list[dict] = field(default_factory=list)  # a row for each step of the optimizer

    def best(self) -> dict:
        """The evaluation with the lowest validation loss, the first one of equals."""
        return min(self.history, key=lambda row: row["validation_loss"])

    def epochs_since_best(self) -> float:
        """How long the validation loss has not been lower; 0 before the first evaluation."""
        return self.history[-1]["epoch"] - self.best()["epoch"] if self.history else 0.0

    def save(self, path: Path) -> None:
        """Write all but the steps to `path`, in the place of what was written before."""
        numbers = self.optimizer.state_dict()
        trained = self.model.trainable_parameters()
        tensors = {f"trained.{name}": p.detach() for name, p in trained.items()}
        if self.best() is not self.history[-1]:
            tensors |= {f"best.{name}": tensor for name, tensor in _best(path).items()}
        for i, of_parameter in numbers["state"].items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in of_parameter.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        header = {
            "history": self.history,
            "seconds": self.clock.seconds,
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "groups": numbers["param_groups"],
        }
        text = json.dumps(header)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in sorted(tensors.items())}
        with replacing(path) as part:
            save_file(tensors, part, {"state": text, "digest": digest_of(tensors, text)})

    def load(self, path: Path) -> None:
        """Put back what `save` wrote."""
        parts, header = read_state(path)
        numbers = {}
        for name, tensor in parts["optimizer"].items():
            i, _, rest = name.partition(".")
            numbers.setdefault(int(i), {})[rest] = tensor
        copy_tensors(self.model, parts["trained"], str(path))
        self.optimizer.load_state_dict({"state": numbers, "param_groups": header["groups"]})
        self.schedule.load_state_dict(header["schedule"])
        self.scaler.load_state_dict(header["scaler"])
        self.history, self.clock.seconds = header["history"], header["seconds"]
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(parts["random"]["cuda"])

    def load_best(self, path: Path) -> None:
        """Put the tensors of the best evaluation into the model."""
        copy_tensors(self.model, _best(path), str(path))


def _best(path):
    with safe_open(path, "pt") as file:
        best = any(name.startswith("best.") for name in file.keys())  # noqa: SIM118
        kind = "best." if best else "trained."
        names = [name for name in file.keys() if name.startswith(kind)]  # noqa: SIM118
        return {name.removeprefix(kind): file.get_tensor(name) for name in names}


def read_state(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """The tensors by kind and name, and the header; `BadInput` unless all is as it was written."""
    with reading(str(path), f"delete {path.parent} to start that run anew"):
        data = path.read_bytes()  # at once: another process may put a new file in its place
        tensors = dict(sorted(load(data).items()))
        size = int.from_bytes(data[:8], "little")  # of the header, which follows
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        if digest_of(tensors, header["state"]) != header["digest"]:
            raise ValueError("its digest is not that of its content")
        parts = {"trained": {}, "best": {}, "optimizer": {}, "random": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = tensor
        return parts, json.loads(header["state"])
