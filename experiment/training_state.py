"""The state of a run in training, saved at every evaluation, so that a killed run resumes.

The order of the data depends on seed and epoch alone, and early stopping on the history. The
tensors of each learning rate's best evaluation are in a separate file (runs.py). The state is read
with `weights_only`: no code can hide in it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import hardware
from boundary import reading
from modeling import PeftModel
from records import DAMAGED


@dataclass
class State:
    """A model in training at one learning rate, and the run's history at all learning rates."""

    model: PeftModel
    learning_rate: float
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    history: list[dict] = field(default_factory=list)  # a row for each evaluation on validation

    def __post_init__(self):
        device = next(self.model.parameters()).device
        # float16 has few bits for small gradients: the loss is scaled up, the gradients then down.
        is_float16 = hardware.compute_type(device) is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=is_float16)

    def evaluations(self) -> list[dict]:
        """The history of this learning rate."""
        return [row for row in self.history if row["learning_rate"] == self.learning_rate]

    def is_best(self) -> bool:
        """Whether the last evaluation has this learning rate's lowest validation loss."""
        return best(self.evaluations()) is self.history[-1]

    def steps_since_best(self) -> int:
        """The steps at this learning rate since its lowest validation loss."""
        rows = self.evaluations()
        return rows[-1]["step"] - best(rows)["step"] if rows else 0

    def steps_done(self) -> int:
        """How many steps were made at this learning rate, up to its last evaluation."""
        rows = self.evaluations()
        return rows[-1]["step"] if rows else 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, except the frozen weights."""
        return {
            "learning_rate": self.learning_rate,
            "trained": {n: p.detach() for n, p in self.model.trainable_parameters().items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": {kind: module.get_rng_state() for kind, module in _generators().items()},
            "history": self.history,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.model.load_trained(saved["trained"], "the state of an unfinished run")
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        if saved["scaler"]:  # empty where the earlier device scaled no loss
            self.scaler.load_state_dict(saved["scaler"])
        random = dict(saved["random"])
        for kind, module in _generators().items():
            if kind in random:  # else the run began on another kind of device
                module.set_rng_state(random[kind].cpu())


def _generators():
    """The modules that have a random state, by kind of device: the CPU's, and a GPU's if any."""
    gpu = torch.accelerator.current_accelerator(check_available=True)
    return {"cpu": torch} | ({gpu.type: torch.get_device_module(gpu)} if gpu else {})


def best(history: list[dict]) -> dict:
    """The evaluation with the lowest validation loss, the first one of equals."""
    return min(history, key=lambda row: row["validation_loss"])


def read_state(path: Path) -> dict[str, Any]:
    """The saved `State.state_dict`, on the CPU. Raises `BadInput` where the file is damaged."""
    with reading(str(path), DAMAGED):
        saved = torch.load(path, map_location="cpu", weights_only=True)
        saved["history"], saved["learning_rate"]  # without them it is no state
        return saved
