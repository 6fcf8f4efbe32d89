"""An experiment: what all its runs share, and which runs there are."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

import hardware
import modeling
from boundary import BadInput
from data_utils import BUNDLED, ENCODERS, Split
from evaluation.files import read_json

from . import processes, tuning
from .runs import LOCK, Run, folder_lock, held
from .settings import Settings

# may differ between starts
FREE = ("methods", "seeds", "results", "tuning_rates", "tensorboard", "parallel")


@dataclass(frozen=True)
class Experiment:
    """All that its runs share. Tuning is the same with other runs, and without test reviews."""

    settings: Settings
    device: torch.device
    config: PretrainedConfig  # of the pretrained classifier
    base: str  # the fingerprint of its weights
    tokenizer: PreTrainedTokenizerBase
    splits: dict[str, Split]  # train, validation and, but for tuning, test; on the device
    notes: list[str]  # what was dropped from the data, in words

    @property
    def folder(self) -> Path:
        """Where its results are."""
        name = self.settings.experiment + ("-tuning" if self.settings.tune else "")
        return Path(self.settings.results) / name

    @property
    def label_names(self) -> list[str]:
        """The labels' names, 0 to C - 1."""
        return list(self.config.id2label.values())

    def pretrained(self) -> PreTrainedModel:
        """The pretrained classifier, loaded anew; torch's seed decides its new head."""
        return modeling.load_pretrained(self.config._name_or_path, self.config)

    def runs(self) -> list["Run"]:
        """Every run, by method and seed; a baseline, which has no randomness, runs once."""
        settings = self.settings
        if settings.tune:
            return [Run(self, method, settings.seeds[0]) for method in tuning.grid(settings)]
        return [
            Run(self, method, seed)
            for method in settings.methods
            for seed in (settings.seeds[:1] if method.is_baseline else settings.seeds)
        ]

    def runs_to_do(self) -> Iterator["Run"]:
        """The runs that are not finished, one by one, each held while it is at work.

        A run that another process holds is passed over, and taken later if that process has
        ended without finishing it. A run that fails is not tried again before the next start.
        Processes that share each run take those of the first one.
        """
        runs, taken = {run.name: run for run in self.runs()}, self._take_runs()
        while True:
            run = next(taken, None) if processes.leads() else None
            name = processes.broadcast(run and run.name)
            if name is None:
                return
            yield runs[name]

    def _take_runs(self):
        todo = [run for run in self.runs() if not run.is_finished]
        stamps = {run.name: run.stamp for run in todo}
        found = True
        while found:
            found = False
            for run in todo:
                with ExitStack() as stack:
                    with folder_lock(self.folder):  # nobody looks who is at work, or starts over
                        free = stack.enter_context(held(run.folder / LOCK))
                        free = free and run.stamp == stamps[run.name]
                        if free:
                            self.check_constants()  # another process may have started over
                    if free:
                        found = True
                        yield run

    def check_constants(self) -> None:
        """Raise `BadInput` unless the folder's runs have these constants, but for the `FREE`."""
        path = self.folder / "experiment.json"
        if not path.exists():
            return
        earlier = read_json(path, ["constants"])["constants"]
        for name, now in json.loads(json.dumps(self.settings.constants())).items():
            then = earlier.get(name, "unknown (another version)")
            if name not in FREE and now != then:
                raise BadInput(
                    f"{self.folder} has runs with {name.upper()} = {then}, not {now}; choose "
                    "another EXPERIMENT name, or start over with --fresh"
                )

    @property
    def names(self) -> dict[str, str]:
        """What the model and the data are called in files and figures."""
        settings = self.settings
        encoder = ENCODERS.get(settings.model)
        model = f"{encoder} (bundled)" if encoder else settings.model
        data_set = "IMDB's train split (bundled)"
        data_set = data_set if settings.dataset == BUNDLED else settings.dataset
        return {"model": model, "data_set": data_set}

    def about(self) -> dict:
        """What experiment.json says."""
        data = {name: len(split) for name, split in self.splits.items()}
        shares = {f"{name}_share_truncated": split.truncated for name, split in self.splits.items()}
        about = {"constants": self.settings.constants()} | self.names
        about |= {"label_names": self.label_names, "data": data | shares | {"notes": self.notes}}
        return about | {"command": self.settings.command} | hardware.environment(self.device)
