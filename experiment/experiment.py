"""An experiment: what all its runs share, and which runs there are."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

import hardware
import modeling
from boundary import BadInput
from data_utils import ENCODERS, TASKS, Reviews, Split, Task, tokenise
from evaluation.files import read_json

from . import processes, tuning
from .runs import LOCK, Run, folder_lock, held
from .settings import Settings

# may differ between starts: they change no finished run's numbers, or each run records its own
FREE = ("methods", "seeds", "contrasts", "equivalence_margin", "learning_rates", "tuning_rates")
FREE += ("store_states", "micro_batch_tokens", "results", "tensorboard", "parallel")


@dataclass(frozen=True, eq=False)
class Experiment:
    """All that its runs share. Tuning is the same with other runs, and without test reviews."""

    settings: Settings
    device: torch.device
    config: PretrainedConfig  # of the pretrained classifier
    base: str  # the fingerprint of its weights
    tokenizer: PreTrainedTokenizerBase
    task: Task  # the data
    drawn: dict[int, Reviews] = field(default_factory=dict)  # by the seed of the draw
    tokenised: dict[tuple, Split] = field(default_factory=dict)  # by name and seed of the draw

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

    # ------------------------------------------------------------------------ data

    def draw(self, seed: int) -> int:
        """The seed of the draw of labels of runs with this seed: their own, or one for all."""
        return seed if self.settings.redraw_labels else 0

    def reviews(self, seed: int) -> Reviews:
        """The texts and labels of runs with this seed; the test is the same for all seeds."""
        constants, draw = self.settings, self.draw(seed)
        if draw not in self.drawn:
            self.drawn[draw] = self.task.split(
                labels=constants.labels,
                validation_share=constants.validation_share,
                test_examples=constants.test_examples,
                split_seed=constants.split_seed,
                draw_seed=draw,
            )
        return self.drawn[draw]

    def splits(self, seed: int) -> dict[str, Split]:
        """Train, validation and, but for tuning, test: tokenised, and on the device."""
        names = ("train", "validation") if self.settings.tune else ("train", "validation", "test")
        return {name: self._tokenise(name, seed) for name in names}

    def _tokenise(self, name, seed):
        key = name, None if name == "test" else self.draw(seed)
        if key not in self.tokenised:
            split = tokenise(getattr(self.reviews(seed), name), self.tokenizer)
            self.tokenised[key] = split.to(self.device)
        return self.tokenised[key]

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the encoder's weights, and of all texts and labels, whatever is drawn."""
        all_of_it = self.task.split(
            labels=None,
            validation_share=self.settings.validation_share,
            test_examples=None,
            split_seed=self.settings.split_seed,
            draw_seed=0,
        )
        digest = hashlib.sha256()
        for split in (all_of_it.train, all_of_it.validation, all_of_it.test):
            digest.update(json.dumps([split["text"][:], split["label"][:]]).encode())
        return {"weights": self.base, "data": digest.hexdigest()}

    # ------------------------------------------------------------------------ runs

    def runs(self) -> list[Run]:
        """Every run, by method and seed.

        A baseline has no randomness: it runs once, or once for each draw of the labels.
        """
        settings = self.settings
        if settings.tune:
            return [Run(self, method, settings.seeds[0]) for method in tuning.grid(settings)]
        draws = settings.redraw_labels and settings.labels is not None
        return [
            Run(self, method, seed)
            for method in settings.methods
            for seed in (settings.seeds if draws or not method.is_baseline else settings.seeds[:1])
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
        task = TASKS.get(settings.dataset)
        data_set = f"{task} (bundled)" if task else settings.dataset
        return {"model": model, "data_set": data_set}

    def about(self) -> dict:
        """What experiment.json says."""
        seed = self.settings.seeds[0]
        reviews, splits = self.reviews(seed), self.splits(seed)
        data = {name: len(split) for name, split in splits.items()}
        data |= {f"{name}_share_truncated": split.truncated for name, split in splits.items()}
        data["labels"] = {
            name: torch.bincount(split.labels.cpu(), minlength=len(self.label_names)).tolist()
            for name, split in splits.items()
        }
        data |= {"groups": reviews.groups, "notes": reviews.notes}
        about = {"constants": self.settings.constants()} | self.names
        about |= {"label_names": self.label_names, "data": data, "digests": self.digests}
        return about | {"command": self.settings.command} | hardware.environment(self.device)
