"""An experiment: what all its runs share, and which runs there are."""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

import hardware
import modeling
from boundary import BadInput, reading
from data_utils import ENCODERS, TASKS, Reviews, Split, Task, tokenise
from evaluation.curves import without
from modeling import Method, PeftModel
from records import RunRecord, record_files, run_folders

from . import processes, tuning
from .runs import LOCK, RECORD, STATE, Run, Series, at_work, folder_lock, held, utc
from .settings import TUNING, Settings
from .state_cache import cached_states

ABOUT = "experiment.json"


@dataclass(frozen=True, eq=False)
class Experiment:
    """All that its runs share. Tuning is the same with other runs, and without test texts."""

    settings: Settings
    device: torch.device
    config: PretrainedConfig  # of the pretrained classifier
    base: str  # the fingerprint of its weights
    tokenizer: PreTrainedTokenizerBase
    task: Task
    drawn: dict[int, Reviews] = field(default_factory=dict)  # by the seed of the draw
    tokenised: dict[tuple, Split] = field(default_factory=dict)  # by name and seed of the draw
    depths: set[int] = field(default_factory=set)  # how many blocks are frozen in its runs

    @property
    def folder(self) -> Path:
        """Where its results are."""
        name = self.settings.experiment + (TUNING if self.settings.tune else "")
        return Path(self.settings.results) / name

    def pretrained(self) -> PreTrainedModel:
        """The pretrained classifier, loaded anew; torch's seed decides its new head."""
        return modeling.load_pretrained(self.config._name_or_path, self.config)

    def build(self, method: Method, pooling: str | None = None) -> PeftModel:
        """The classifier, frozen, adapted by the method, and on the device; None: POOLING."""
        pretrained = self.pretrained()
        model = method.build(pretrained, pooling or self.settings.pooling).to(self.device)
        modeling.use_fast_attention(pretrained, self.device)
        return model

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

    def states(self, model: PeftModel, seed: int) -> tuple[dict[str, Split], float]:
        """Its splits with what the frozen blocks make of them, and the seconds that it took."""
        depths, halfway = [k for k in self.depths if 0 < k < model.frozen_blocks], None
        if depths and model.trains_head_alone and model.pooling == self.settings.pooling:
            blocks = len(model.blocks) - max(depths)
            halfway = partial(self.build, Method("full", {"blocks": blocks}))
        return cached_states(model, self.splits(seed), self.settings, halfway)

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the encoder's weights, and of all texts, labels and groups, drawn or not."""
        rows = self.task.rows.to_csv(index=False).encode("utf-8", "surrogatepass")
        return {"weights": self.base, "data": hashlib.sha256(rows).hexdigest()}

    # ------------------------------------------------------------------------ runs

    @cached_property
    def series(self) -> Series:
        """What its runs share."""
        settings, shared = self.settings, self.settings.parallel == "data"
        device = processes.describe(self.device) if shared else hardware.describe(self.device)
        record = {"experiment": settings.experiment, "device": device, "code": hardware.code()}
        constants = settings.shared_constants() | {"digests": self.digests}
        names = self.task.label_names
        return Series(self.folder, record | self.names, constants, names, settings.tensorboard)

    def runs(self) -> list[Run]:
        """Every run, by method and seed.

        A baseline has no randomness: it runs once, as seed 0, or once for each draw of the labels.
        """
        settings = self.settings
        if settings.tune:
            return [Run(self.series, method, settings.seeds[0]) for method in tuning.grid(settings)]
        first = self.reviews(settings.seeds[0])
        used = len(first.train) + len(first.validation)  # fewer than LABELS: all that there are
        draws = settings.redraw_labels and used >= (settings.labels or math.inf)
        return [
            Run(self.series, method, seed)
            for method in settings.methods
            for seed in (settings.seeds if draws or not method.is_baseline else (0,))
        ]

    def runs_to_do(self) -> Iterator[Run]:
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
        before = {run: run.record() for run in self.runs()}
        todo = [run for run, record in before.items() if not (record and record.is_finished)]
        taken = None
        while taken != []:
            taken = []
            for run in todo:
                with ExitStack() as stack:
                    with folder_lock(self.folder):  # nobody looks who is at work, or starts over
                        free = stack.enter_context(held(run.folder / LOCK))
                        if free := free and run.record() in (before[run], None):
                            self.check_same()  # other processes may have other constants
                    if free:
                        taken.append(run)
                        yield run
            todo = [run for run in todo if run not in taken]

    def check_same(self) -> None:
        """Raise `BadInput` unless the folder's runs have these constants, data and weights.

        Those that failed are not asked: they may be tried with others.
        """
        earlier = self.earlier()
        there = any(map(_counts, run_folders(self.folder)))
        if not earlier or not (there or at_work(self.folder)):  # before its first evaluation
            return
        if what := self._changes(earlier):
            remedy = "choose another EXPERIMENT name, or start over with --fresh"
            raise BadInput(f"{self.folder} has runs with {what[0]}; {remedy}")
        records = [RunRecord.read(path) for path in record_files(self.folder)]
        apart = "learning_rate" if self.settings.tune else ""  # there rates are compared
        for run in {run.method.text: run for run in self.runs()}.values():
            for record in records:  # of any seed
                alike = without(apart, record.method) == without(apart, run.method.text)
                if record.is_finished and alike:
                    run.check_like(record, but=apart)

    def _changes(self, earlier):
        """What is not as in an earlier start, in words, of what all numbers depend on."""
        then, now = earlier["constants"], self.settings.shared_constants()
        changed = [k for k in now if now[k] != then.get(k)]
        what = [f"{k.upper()} = {then.get(k)}, not {now[k]}" for k in changed]
        then, now = earlier["digests"], self.digests
        return what + [f"other {k} of the same name" for k in now if now[k] != then.get(k)]

    def earlier(self) -> dict[str, Any] | None:
        """What experiment.json says; None without one. Raises `BadInput` where it is damaged."""
        path = self.folder / ABOUT
        if not path.exists():
            return None
        with reading(str(path), "choose another EXPERIMENT name, or start over with --fresh"):
            about = json.loads(path.read_text(encoding="utf-8"))
            about["constants"]["methods"], about["command"], about["digests"], about["started"]
            return about

    def finish(self, run: Run, facts: dict, logits: Tensor | None, model: PeftModel | None = None):
        """End a run: write the test's logits (n, C) and the model, if any."""
        test = None if logits is None else self.splits(run.seed)["test"]
        if model and logits is not None and processes.leads():
            modeling.save_checkpoint(model, run.folder, self.tokenizer)
        facts["other_load"] = hardware.other_load(self.device)
        run.finish(facts, test, logits)

    # ------------------------------------------------------------------------ in words

    @property
    def names(self) -> dict[str, str]:
        """What the model and the data are called in files and figures."""
        model, data_set = self.settings.model, self.settings.dataset
        return {"model": ENCODERS.get(model, model), "data_set": TASKS.get(data_set, data_set)}

    def about(self) -> dict[str, Any]:
        """What experiment.json will say: also of the runs of earlier starts."""
        settings, constants = self.settings, self.settings.constants()
        reviews, splits = self.reviews(settings.seeds[0]), self.splits(settings.seeds[0])
        data = {name: len(split) for name, split in splits.items()}
        data |= {f"{name}_share_truncated": split.truncated for name, split in splits.items()}
        data["labels"] = {
            name: np.bincount(split.labels.cpu(), minlength=len(self.task.label_names)).tolist()
            for name, split in splits.items()
        }
        data |= {"groups": reviews.groups, "notes": reviews.notes}
        about = {
            "started": utc(),
            "constants": constants,
            **self.names,
            "label_names": self.task.label_names,
        }
        about |= {"data": data, "digests": self.digests, "command": settings.command}
        earlier = self.earlier()
        if earlier and not self._changes(earlier):
            for name in ("methods", "seeds"):
                then = earlier["constants"][name]
                constants[name] = then + [new for new in constants[name] if new not in then]
            commands = earlier["command"].split(" && ")
            commands += [settings.command] if settings.command not in commands else []
            about |= {"started": earlier["started"], "command": " && ".join(commands)}
        return about | hardware.environment(self.device)


def _counts(run):
    """Whether the folder of a run holds what must not be mixed with others: no failure does."""
    if (run / RECORD).exists():
        return RunRecord.read(run / RECORD).is_finished
    return (run / STATE).exists()
