"""Which runs an experiment has, which are left, and who holds them.

Any number of processes may work on one folder. A run is taken while the folder is locked, and held
by a lock of its own while it is at work; the last process to end writes the page.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

import hardware
from boundary import BadInput, clear, reading, write, writing
from evaluation import plots
from modeling import Method
from modeling.checkpoint import ABOUT as CHECKPOINT
from modeling.checkpoint import read_about
from records import ABOUT, DAMAGED, RunRecord, folders_named, run_folders, what_differs

from .data import Data
from .runs import LOCK, OTHERWISE, OUTPUTS, RECORD, STATE, Run, held, utc
from .settings import Settings
from .training_state import read_state

# Written beside the runs' folders.
FILES = ("runs.csv", "history.csv", "misclassified.csv", "left_out.csv", "answer.csv")
FILES += ("report.md", "report.html", *plots.FILES)
OTHER = "choose another EXPERIMENT name or RESULTS folder"


class RunQueue:
    """The runs of an experiment, by method and seed."""

    def __init__(self, settings: Settings, data: Data):
        self.settings, self.data = settings, data
        self.folder = Path(settings.results) / settings.experiment

    def locked(self):
        """Held for a moment to open the folder, to take a run, and to write the page."""
        remedy = "set it to a folder that can be written"
        with reading(f"RESULTS {self.folder}", remedy, "written"):  # locks may be unknown there
            self.folder.mkdir(parents=True, exist_ok=True)
            return FileLock(self.folder / LOCK).acquire()

    # ------------------------------------------------------------------------ which runs

    @cached_property
    def shared(self) -> dict[str, Any]:
        """What the numbers of every run depend on."""
        return self.settings.shared_constants() | self.data.digests

    def run(self, method: Method, seed: int, in_folder: str = "") -> Run:
        """The run of a method with a seed."""
        names = {"experiment": self.settings.experiment} | self.data.names
        facts = names | {"device": hardware.describe(self.data.device), "code": hardware.code()}
        depends_on = self.shared | {"method": method.name} | method.hyperparameters
        labels = self.data.task.label_names
        return Run(self.folder, method, seed, facts, depends_on, labels, in_folder)

    @cached_property
    def runs(self) -> list[Run]:
        """Every run, the methods in their order; combinations come from their parts' runs.

        A baseline has no randomness: where no seed has other texts it runs once, as seed 0.
        """
        if self.settings.final:
            return self._final_runs()
        methods = {}
        for method in self.settings.methods:
            methods |= {part.text: part for part in method.parts or (method,)}
        seeds, divisions = self.settings.seeds, self.data.divisions.values()
        alike = len({np.sort([*d.train, *d.validation]).tobytes() for d in divisions}) == 1
        return [
            self.run(method, seed)
            for method in methods.values()
            for seed in ((seeds[0],) if alike and method.is_baseline else seeds)
        ]

    def _final_runs(self):
        method = self.settings.final
        if not method.parts:
            return [self.run(method, 0, "final")]
        return [self.run(part, 0, f"final/{part.file_name}") for part in method.parts]

    @property
    def combinations(self) -> list[Run]:
        """The runs that are made of the predictions of others."""
        methods = [] if self.settings.final else self.settings.methods
        pairs = [(m, seed) for m in methods if m.parts for seed in self.settings.seeds]
        return [self.run(method, seed) for method, seed in pairs]

    def part(self, method: Method, seed: int) -> Run:
        """The run of a combination's part; a baseline may have run once for all seeds."""
        runs = {(run.method.text, run.seed): run for run in self.runs}
        return runs.get((method.text, seed)) or runs[method.text, self.settings.seeds[0]]

    def left(self) -> list[Run]:
        """The runs that have not finished."""
        records = [(run, run.record()) for run in self.runs]
        return [run for run, record in records if not (record and record.is_finished)]

    def __iter__(self) -> Iterator[Run]:
        """The runs that are left, one by one, each held while it is at work.

        A run that another process holds is passed over, and taken later if that process has ended
        without finishing it. A run that fails is not tried again before the next start.
        """
        left = {run: run.record() for run in self.left()}
        taken = None
        while taken != []:
            taken = []
            for run, before in left.items():
                with ExitStack() as stack:
                    with self.locked():
                        free = stack.enter_context(held(run.folder / LOCK))
                        if free := free and run.record() in (before, None):
                            self.check()  # other processes may have other constants
                    if free:
                        taken.append(run)
                        yield run
            left = {run: before for run, before in left.items() if run not in taken}

    def do(self, run: Run, act: Callable[[Run, Data, Settings], None]) -> None:
        """`act(run, data, settings)`; what fails is recorded, and costs no other run.

        Where the loss was not finite since cached numbers were damaged, it is done once more.
        """
        with run.at_work():
            try:
                act(run, self.data, self.settings)
            except FloatingPointError:
                if not self.data.drop_damaged():
                    raise
                print("Cached output of the frozen blocks was damaged: it is computed anew")
                run.delete(STATE)
                act(run, self.data, self.settings)

    # ------------------------------------------------------------------------ the folder

    def open(self) -> None:
        """Start the experiment in its folder, or resume it; --fresh deletes what it left before.

        Raises `BadInput` where the folder is not an experiment's, or has runs that differ, and
        where --fresh would delete what another process is at work on.
        """
        with self.locked():
            folder, about = self.folder, self.folder / ABOUT
            if not about.exists():
                ours = [p.name for p in folder.iterdir() if p.name in (*FILES, "final")]
                ours += [path.parent.name for path in folder.glob(f"*/{RECORD}")]
                if ours:
                    raise BadInput(f"{folder} has {ours[0]} and no {ABOUT}: no experiment; {OTHER}")
            if self.settings.fresh and about.exists():
                self._delete()
            self._check_final() if self.settings.final else self._check_runs()
            self.check()
            with writing(about, OTHER):
                write(about, json.dumps(self.about(), indent=2) + "\n")
            for run in self.runs:
                if (record := run.record()) and record.is_finished:
                    run.tidy()  # it may have been killed before

    def check(self) -> None:
        """Raise `BadInput` where the folder's experiment depends on something else than this one.

        What failed may be tried otherwise; a run that a process is at work on counts.
        """
        counts = [run for run in run_folders(self.folder) if _counts(run)]
        if counts or self.at_work():
            self._refuse(self.folder, self.earlier().get("depends_on", {}), self.shared)

    def _check_runs(self):
        """The same of each run that is there, also of methods that this start does not have."""
        runs = [*self.runs, *self.combinations]
        mine = {run.method.file_name: run.depends_on for run in runs}  # the same for all seeds
        for folder in filter(_counts, run_folders(self.folder)):
            if (folder / RECORD).exists():
                then = RunRecord.read(folder / RECORD).depends_on
            else:
                with reading(str(folder / STATE), DAMAGED):
                    then = read_state(folder / STATE)["depends_on"]
            method = folder.name.rpartition("-seed")[0]
            if method in mine:
                self._refuse(folder, then, mine[method])
            else:  # another method has hyperparameters of its own
                self._refuse(folder, {k: then.get(k) for k in self.shared}, self.shared)

    def _refuse(self, folder, then, now):
        if differences := what_differs(then, now):
            raise BadInput(f"{folder} has {differences[0]}; {OTHERWISE}")

    def at_work(self) -> list[str]:
        """The names of the runs in the folder that another process holds."""
        names = []
        for run in run_folders(self.folder):
            with held(run / LOCK) as free:
                if not free:
                    names.append(run.name)
        return names

    def _delete(self):
        """Delete what the experiment has left, by name: the runs first, experiment.json last."""
        folders = self._final_folders() if self.settings.final else run_folders(self.folder)
        with ExitStack() as stack:
            for run in folders:
                if not stack.enter_context(held(run / LOCK)):
                    line = f"another process is at work on {run}"
                    raise BadInput(f"{line}; wait for it, or choose another EXPERIMENT name")
            for run in folders:
                _remove(run, *OUTPUTS, STATE)
        for run in folders:
            _remove(run, LOCK)
            if not any(run.iterdir()):  # else it holds something of the user's
                run.rmdir()
        if not self.settings.final:
            _remove(self.folder, *FILES, ABOUT)

    def _final_folders(self):
        """The folder "final", after those of a combination's parts that are in it."""
        for final in folders_named(self.folder, ["final"]):
            names = {run.folder.name for run in self.runs}
            names.update(read_about(final).parts if (final / CHECKPOINT).exists() else [])
            return [*folders_named(final, names), final]
        return []

    def _check_final(self):
        """Raise `BadInput` where the folder "final" has another model than the one asked for."""
        final, asked, differences = self.folder / "final", self.settings.final, []
        if (final / CHECKPOINT).exists():
            method = read_about(final).method
            differences = [method] * (method != (asked.text if asked.parts else asked.name))
        for run in self.runs:
            if (record := run.record()) and record.is_finished:
                differences += what_differs(record.depends_on, run.depends_on)
        if differences:
            raise BadInput(f"{final} has {differences[0]}; give --fresh to replace it")

    # ------------------------------------------------------------------------ experiment.json

    def earlier(self) -> dict[str, Any]:
        """What experiment.json says; empty without one. Raises `BadInput` where it is damaged."""
        path = self.folder / ABOUT
        if not path.exists():
            return {}
        with reading(str(path), DAMAGED):
            about = json.loads(path.read_text(encoding="utf-8"))
            about["constants"]["methods"], about["command"], about["runs"], about["started"]
            return about

    def about(self) -> dict[str, Any]:
        """What experiment.json will say: also of the runs of earlier starts."""
        settings, constants = self.settings, self.settings.constants()
        earlier = self.earlier()
        if settings.final and earlier:
            return earlier
        runs = [run.name for run in [*self.runs, *self.combinations]]
        about = {"started": utc(), "constants": constants, **self.data.names}
        about |= {"label_names": self.data.task.label_names, "data": self.data.about()}
        about |= {"digests": self.data.digests, "depends_on": self.shared}
        about |= {"command": settings.command, "runs": runs}
        if earlier and any(map(_counts, run_folders(self.folder))):
            for name in ("methods", "seeds"):
                before = earlier["constants"][name]
                constants[name] = _union(before, constants[name])
            about |= {"runs": _union(earlier["runs"], runs), "started": earlier["started"]}
            commands = _union(earlier["command"].split(" && "), [settings.command])
            about["command"] = " && ".join(commands)
        return about | hardware.environment(self.data.device)


def _counts(run):
    """Whether the folder of a run holds what must not be mixed with others: no failure does."""
    if (run / RECORD).exists():
        return RunRecord.read(run / RECORD).is_finished
    return (run / STATE).exists()


def _union(before, now):
    return before + [each for each in now if each not in before]


def _remove(folder, *names):
    for name in names:
        path = folder / name
        with writing(path, OTHER):
            path.unlink(missing_ok=True)
            clear(path)
