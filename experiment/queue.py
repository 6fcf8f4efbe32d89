"""Which runs an experiment has, which are left, and who holds them.

Any number of processes may work on one folder. A run is taken while the folder is locked, and held
by a lock of its own while it is at work; the last process to end writes the page.
"""

import json
from collections.abc import Iterable, Iterator
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
from .runs import LOCK, OUTPUTS, RECORD, STATE, Run, held, utc
from .settings import Settings
from .training_state import read_state

# Written beside the runs' folders.
FILES = ("runs.csv", "history.csv", "misclassified.csv", "left_out.csv", "answer.csv")
FILES += ("report.md", "report.html", *plots.FILES)
OTHER = "choose another EXPERIMENT name or RESULTS folder"
OTHERWISE = "choose another EXPERIMENT name, or start over with --fresh"


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

    def run(self, method: Method, seed: int, name: str = "") -> Run:
        """The run of a method with a seed; `name`: of its folder, if not after these two."""
        names = {"experiment": self.settings.experiment} | self.data.names
        facts = names | {"device": hardware.describe(self.data.device), "code": hardware.code()}
        depends_on = self.shared | {"method": method.name} | method.hyperparameters
        folder = self.folder / (name or f"{method.file_name}-seed{seed}")
        return Run(folder, method, seed, facts, depends_on, self.data.task.label_names)

    @cached_property
    def runs(self) -> list[Run]:
        """Every run, the methods in their order; combinations come from their parts' runs.

        A baseline has no randomness: where no seed has other texts it runs once, as seed 0.
        """
        if final := self.settings.final:
            parts = [(part, f"final/{part.file_name}") for part in final.parts]
            return [self.run(method, 0, name) for method, name in parts or [(final, "final")]]
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

    @cached_property
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
        return [run for run in self.runs if not run.is_finished]

    def __iter__(self) -> Iterator[Run]:
        """The runs that are left, one by one, each held while it is at work.

        A run that another process holds is passed over, and taken later if that process has ended
        without finishing it. A run that fails is not tried again before the next start.
        """
        left, taken = {run: run.record() for run in self.left()}, None
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

    # ------------------------------------------------------------------------ the folder

    def open(self) -> None:
        """Start the experiment in its folder, or resume it; --fresh deletes what it left before.

        With --final it deletes the earlier final model alone.
        Raises `BadInput` where the folder is not an experiment's, or has runs that differ, and
        where --fresh would delete what another process is at work on.
        """
        replaces_final = self.settings.fresh and self.settings.final
        with self.locked(), writing(self.folder, OTHER):
            if not (self.folder / ABOUT).exists():
                self._refuse_what_is_no_experiment()
            elif self.settings.fresh and not replaces_final:
                self._delete(run_folders(self.folder))
                _remove(self.folder, *FILES, ABOUT)
            replaced = ["final"] if replaces_final else []
            folders = [path for path in run_folders(self.folder) if path.name not in replaced]
            is_begun = any(map(_counts, folders)) or bool(at_work(folders))
            if is_begun:
                self._check_shared()
            if replaces_final:
                self._delete(self._final_folders())
            self._check_runs()
            write(self.folder / ABOUT, json.dumps(self.about(is_begun), indent=2) + "\n")
            clear(self.folder)
            for run in self.runs:
                if run.is_finished:
                    run.tidy()  # it may have been killed before

    def check(self) -> None:
        """Raise `BadInput` where the folder's experiment depends on something else than this one.

        What failed may be tried otherwise: the last to open the folder says what it depends on.
        """
        self._check_shared()
        self._check_runs()

    def _check_shared(self):
        """Raise where what all runs share differs."""
        if earlier := self.earlier():
            self._compare(self.folder, earlier["depends_on"], self.shared)

    def _check_runs(self):
        """The same of each run that is there of this start's methods, whatever its seed."""
        final, asked = self.folder / "final", self.settings.final
        if asked and (final / CHECKPOINT).exists():
            earlier, current = read_about(final).method, asked.text if asked.parts else asked.name
            self._compare(final, {"method": earlier}, {"method": current})
        runs = [*self.runs, *self.combinations]
        by_method = {run.method.file_name: run.depends_on for run in runs}  # the same for all seeds
        folders = {path: path.name.rpartition("-seed")[0] for path in run_folders(self.folder)}
        if asked:
            folders = {run.folder: run.method.file_name for run in runs}
        for folder, method in folders.items():
            if method in by_method and _counts(folder):
                self._compare(folder, _depends_on(folder), by_method[method])

    def _compare(self, folder, earlier, current):
        if differences := what_differs(earlier, current):
            is_final = self.settings.final and folder != self.folder
            remedy = "give --fresh to replace it" if is_final else OTHERWISE
            raise BadInput(f"{folder} has {differences[0]}; {remedy}")

    def _refuse_what_is_no_experiment(self):
        names = [path.name for path in self.folder.iterdir() if path.name in (*FILES, "final")]
        names += [path.parent.name for path in self.folder.glob(f"*/{RECORD}")]
        if names:
            raise BadInput(f"{self.folder} has {names[0]} and no {ABOUT}: no experiment; {OTHER}")

    def _final_folders(self):
        """The folder "final", after those of a combination's parts that are in it."""
        for final in folders_named(self.folder, ["final"]):
            names = {run.folder.name for run in self.runs}
            names.update(read_about(final).parts if (final / CHECKPOINT).exists() else [])
            return [*folders_named(final, names), final]
        return []

    def _delete(self, folders):
        """Delete what runs have left in their folders, by name."""
        if busy := at_work(folders):
            line = f"another process is at work on {busy[0]} in {self.folder}"
            raise BadInput(f"{line}; wait for it, or choose another EXPERIMENT name")
        for folder in folders:
            _remove(folder, *OUTPUTS, STATE, LOCK)
            if not any(folder.iterdir()):  # else it holds something of the user's
                folder.rmdir()

    # ------------------------------------------------------------------------ experiment.json

    def earlier(self) -> dict[str, Any]:
        """What experiment.json says; empty without one. Raises `BadInput` where it is damaged."""
        path = self.folder / ABOUT
        if not path.exists():
            return {}
        with reading(str(path), DAMAGED):
            about = json.loads(path.read_text(encoding="utf-8"))
            about["constants"]["methods"], about["depends_on"]  # both are needed
            return about

    def about(self, is_begun: bool) -> dict[str, Any]:
        """What experiment.json will say: also of the runs of earlier starts, if there are any."""
        settings, constants = self.settings, self.settings.constants()
        earlier = self.earlier()
        if settings.final and is_begun:
            return earlier
        runs = [run.folder.name for run in [*self.runs, *self.combinations]]
        about = {"started": utc(), "constants": constants, **self.data.names}
        about |= {"label_names": self.data.task.label_names, "data": self.data.about()}
        about |= {"digests": self.data.digests, "depends_on": self.shared}
        about |= {"command": settings.command, "runs": runs}
        if is_begun:
            for name in ("methods", "seeds"):
                constants[name] = _union(earlier["constants"][name], constants[name])
            about |= {"runs": _union(earlier["runs"], runs), "started": earlier["started"]}
            commands = _union(earlier["command"].split(" && "), [settings.command])
            about["command"] = " && ".join(commands)
        return about | hardware.environment(self.data.device)


def at_work(folders: Iterable[Path]) -> list[str]:
    """The names of the runs that another process holds."""
    names = []
    for folder in folders:
        with held(folder / LOCK) as free:
            if not free:
                names.append(folder.name)
    return names


def _counts(folder):
    """Whether a run's folder holds what must not be mixed with others: no failure does."""
    if (folder / RECORD).exists():
        return RunRecord.read(folder / RECORD).is_finished
    return (folder / STATE).exists()


def _depends_on(folder):
    """What the finished or unfinished run in a folder depends on."""
    if (folder / RECORD).exists():
        return RunRecord.read(folder / RECORD).depends_on
    return read_state(folder / STATE)["depends_on"]


def _union(before, now):
    return before + [each for each in now if each not in before]


def _remove(folder, *names):
    for name in names:
        (folder / name).unlink(missing_ok=True)
    clear(folder)
