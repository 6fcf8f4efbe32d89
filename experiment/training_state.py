"""What a run in training has come to: saved at every evaluation, so that a killed run resumes.

One safetensors file: its tensors, and in its header all the rest as JSON. No code can hide in it.

The order of the data depends on seed and epoch alone, and early stopping on the history. The
trained tensors of the best evaluation stand in a file of their own, trained.safetensors.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import hardware
from boundary import replacing
from modeling import PeftModel


@dataclass
class State:
    """A model in training, and what training it has come to."""

    model: PeftModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler  # of the loss, where the device computes in float16
    clock: hardware.Clock
    history: list[dict] = field(default_factory=list)  # a row for each evaluation on validation
    steps: list[dict] = field(default_factory=list)  # a row for each step of the optimizer

    def best(self) -> dict:
        """The evaluation with the lowest validation loss, the first one of equals."""
        return min(self.history, key=lambda row: row["validation_loss"])

    def steps_since_best(self) -> int:
        """How long the validation loss has not been lower; 0 before the first evaluation."""
        return self.history[-1]["step"] - self.best()["step"] if self.history else 0

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs, but for the frozen weights."""
        cuda = torch.cuda.is_available()
        return {
            "trained": {n: p.detach() for n, p in self.model.trainable_parameters().items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": (torch.get_rng_state(), torch.cuda.get_rng_state() if cuda else None),
            "seconds": self.clock.seconds,
            "history": self.history,
            "steps": self.steps,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.model.load_trained(saved["trained"], "the state of an unfinished run")
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.scaler.load_state_dict(saved["scaler"])
        on_cpu, on_cuda = saved["random"]
        torch.set_rng_state(on_cpu)
        if on_cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(on_cuda)
        self.clock.seconds = saved["seconds"]
        self.history, self.steps = saved["history"], saved["steps"]

    def facts(self) -> dict[str, Any]:
        """What run.json says of training, the peak of its memory so far included."""
        best, (trainable, total) = self.best(), self.model.count_parameters()
        return {
            "validation_loss": best["validation_loss"],
            "validation_accuracy": best["validation_accuracy"],
            "trainable_parameters": trainable,
            "total_parameters": total,
            "trainable_percentage": 100 * trainable / total,
            "training_seconds": self.clock.seconds,
            "frozen_blocks": self.model.frozen_blocks,
            "peak_memory_mib": hardware.peak_memory(self.clock.device),
            "epochs_run": self.history[-1]["epoch"],
            "best_epoch": best["epoch"],
            "best_step": best["step"],
        }


def write_state(saved: dict[str, Any], path: Path) -> None:
    """Write nested dicts and lists of numbers, texts and tensors, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_without_tensors(saved, tensors))
    with replacing(path) as part:
        save_file(tensors, part, {"state": text})


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote."""
    with safe_open(path, "pt") as file:
        return _with_tensors(json.loads(file.metadata()["state"]), file.get_tensor)


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON can hold it: keys may be numbers, and tensors go to `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[k, _without_tensors(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_without_tensors(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_without_tensors(v, tensors) for v in value]
    return value


def _with_tensors(value: Any, tensor: Callable[[str], Tensor]) -> Any:
    """The inverse of `_without_tensors`."""
    if isinstance(value, list):
        return [_with_tensors(v, tensor) for v in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensor(value["tensor"])
    if "tuple" in value:
        return tuple(_with_tensors(v, tensor) for v in value["tuple"])
    return {k: _with_tensors(v, tensor) for k, v in value["items"]}
