"""The state of an unfinished run: killed at any moment, it resumes from its last evaluation.

One safetensors file, written whole or not at all:

    trained.<name>              the trained tensors
    optimizer.<i>.<name>        AdamW's numbers of parameter i
    random.cpu, random.cuda     PyTorch's generators
    (header) state              JSON: history, seconds, the schedule, the scaler, AdamW's groups

The order of the data depends on seed and epoch alone, and early stopping on the history. The steps
stand in steps.csv beside it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from boundary import replacing
from evaluation.measure import Clock
from modeling import PeftModel
from modeling.checkpoint import copy_tensors


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
        """Write all but the steps to `path`."""
        numbers = self.optimizer.state_dict()
        trained = self.model.trainable_parameters()
        tensors = {f"trained.{name}": p.detach() for name, p in trained.items()}
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
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        with replacing(path) as part:
            save_file(tensors, part, {"state": json.dumps(header)})

    def load(self, path: Path) -> None:
        """Put back what `save` wrote."""
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads(file.metadata()["state"])
        parts = {"trained": {}, "optimizer": {}, "random": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = tensor
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
