"""Which runs an experiment has, which are left, and which process holds each run.

Any number of processes may work on one folder. A process takes a run while the folder is locked,
and holds it by the run's own lock while it works on it. The last process to end writes the page.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import hardware
from boundary import BadInput, clear, expanded, lock, reading, write, writing
from modeling import Method
from records import ABOUT, DAMAGED, RunRecord, read_about, records_in, starts, what_differs

from .data import Data
from .runs import LOCK, STATE, Run, held, utc
from .settings import LIMITS, Settings

OTHER = "choose another EXPERIMENT name or RESULTS folder"
EARLIER = "earlier-"  # plus a number: a folder of results that --fresh has set aside


class RunQueue:
    """The runs of an experiment, by method and seed."""

    def __init__(self, settings: Settings, data: Data):
        self.settings, self.data = settings, data
        self.folder = Path(settings.results, settings.experiment, "final" if settings.final else "")

    def locked(self):
        """The folder's lock, held to open the folder, to take a run, and to write the page."""
        remedy = "set it to a folder that can be written"
        with reading(f"RESULTS {self.folder}", remedy, "written"):  # some disks have no locks
            self.folder.mkdir(parents=True, exist_ok=True)
            return lock(self.folder / LOCK)

    # ------------------------------------------------------------------------ which runs

    @cached_property
    def shared(self) -> dict[str, Any]:
        """The constants and digests that the numbers of every run depend on."""
        return self.settings.shared_constants() | self.data.digests

    def run(self, method: Method, seed: int) -> Run:
        """The run of a method with a seed."""
        names = {"experiment": self.settings.experiment} | self.data.names
        facts = names | {"device": hardware.describe(self.data.device), "code": hardware.commit()}
        depends_on = self.shared | {"method": method.name} | method.hyperparameters
        folder = self.folder / f"{method.file_name}-seed{seed}"
        return Run(folder, method, seed, facts, depends_on, self.data.task.label_names)

    @cached_property
    def runs(self) -> list[Run]:
        """All runs but combinations, in the methods' order; parts of combinations are included."""
        methods = {}
        for method in self.settings.methods:
            methods |= {part.text: part for part in method.parts or (method,)}
        return [self.run(each, seed) for each in methods.values() for seed in self._seeds(each)]

    @cached_property
    def combinations(self) -> list[Run]:
        """The runs of combinations, made from the predictions of their parts' runs."""
        methods = [method for method in self.settings.methods if method.parts]
        return [self.run(method, seed) for method in methods for seed in self._seeds(method)]

    def _seeds(self, method):
        """The seeds that a method runs with.

        A baseline has no randomness, nor has a combination of baselines. Where all seeds have the
        same labels it runs once, as seed 0, unless it gets a share of them, such as labels=0.5:
        each seed draws another share.
        """
        parts = method.parts or (method,)
        is_fixed = all(part.is_baseline and part.labels == 1 for part in parts)
        once = is_fixed and not self.data.seeds_have_own_labels
        return (0,) if once else self.settings.seeds

    def part(self, method: Method, seed: int) -> Run:
        """The run of a combination's part; a baseline may have run once for all seeds."""
        runs = {(run.method.text, run.seed): run for run in self.runs}
        return runs.get((method.text, seed)) or runs[method.text, 0]

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
            for run, earlier in left.items():
                with ExitStack() as stack:
                    with self.locked():
                        self.check()  # other processes may have other constants
                        current = run.record()
                        has_ended = current is not None and current.status != "unfinished"
                        is_left = not has_ended or (current.has_failed and current == earlier)
                        if is_taken := stack.enter_context(held(run.folder / LOCK)) and is_left:
                            taken.append(run)
                            with run.at_work():
                                run.begin()
                                self._list()
                    if is_taken and not run.has_failed:
                        yield run
            left = {run: earlier for run, earlier in left.items() if run not in taken}

    # ------------------------------------------------------------------------ the folder

    def open(self) -> None:
        """Start the experiment in its folder, or resume it; --fresh sets earlier results aside.

        Raises `BadInput` where the folder has runs that `check` refuses, and where --fresh would
        move a run that another process is at work on.
        """
        with self.locked(), writing(self.folder, OTHER):
            if self.settings.fresh:
                self._set_aside()
            self.check()
            write(self.folder / ABOUT, json.dumps(self.about(), indent=2) + "\n")
            clear(self.folder)
            for run in self.runs:
                if run.is_finished:
                    run.tidy()  # an earlier process may have been killed before this

    def check(self) -> None:
        """Raise `BadInput` where a run in the folder depends on something else than this start's.

        Failed runs do not count: they may be tried again with other constants.
        """
        runs = {run.folder: run for run in [*self.runs, *self.combinations]}
        of_methods = {run.method.text: run.depends_on for run in runs.values()}  # for all seeds
        for folder, record in self.begun().items():
            expected = of_methods.get(record.method, record.depends_on | self.shared)
            expected = runs[folder].depends_on if folder in runs else expected
            if differences := what_differs(record.depends_on, expected):
                remedy = "choose another EXPERIMENT name, or start over with --fresh"
                raise BadInput(f"{folder} has {differences[0]}; {remedy}")

    def compared_otherwise(self) -> list[str]:
        """Lines that say how a final model differs from the comparison's runs of its methods."""
        lines, wanted = {}, {run.method.text: run.depends_on for run in self.runs}
        folder = self.folder.parent
        try:
            records = records_in(folder) if self.settings.final else {}
            for record in records.values():
                if record.method in wanted and record.is_finished:
                    lines |= dict.fromkeys(what_differs(record.depends_on, wanted[record.method]))
        except BadInput as error:  # a final model needs no comparison
            return [f"the comparison in {folder} was not looked at: {error}"]
        of_the_test = tuple(f"{name.upper()} = " for name in LIMITS)  # unused in a final model
        lines = [line for line in lines if not line.startswith(of_the_test)]
        return [f"the comparison in {folder} had {line}" for line in lines]

    def begun(self) -> dict[Path, RunRecord]:
        """The records of the runs that count, by folder: finished, at work, or to be resumed.

        All new runs must agree with them: see `check`.
        """
        expected = {run.folder: record for run in self.runs if (record := run.record())}
        records = (records_in(self.folder) | expected).items()
        records = {folder: record for folder, record in records if not record.has_failed}
        return {
            folder: record
            for folder, record in records.items()
            if record.is_finished or (folder / STATE).exists() or is_held(folder / LOCK)
        }

    def _set_aside(self):
        """Move the files of earlier starts to the folder earlier-1, or earlier-2 ..."""
        if busy := held_runs(self.folder) or held_runs(self.folder / "final"):
            line = f"another process is at work on {busy[0]} in {self.folder}"
            raise BadInput(f"{line}; wait for it, or choose another EXPERIMENT name")
        if not (self.folder / ABOUT).exists() and not self.begun():
            return  # the folder has no experiment
        everything = os.listdir(self.folder)
        number = next(n for n in count(1) if f"{EARLIER}{n}" not in everything)
        names = [name for name in everything if not name.startswith((LOCK, EARLIER))]
        for path in (self.settings.dataset, self.settings.model):  # kept: this start reads them
            paths_in_use = [*expanded(path).resolve().parents, expanded(path).resolve()]
            names = [name for name in names if (self.folder / name).resolve() not in paths_in_use]
        aside = self.folder / f"{EARLIER}{number}"
        for name in sorted(names, key=ABOUT.__eq__):  # experiment.json last: it lists the others
            aside.mkdir(exist_ok=True)
            os.replace(self.folder / name, aside / name)
        if names:
            final = f", the final model in {aside / 'final'}" * ("final" in names)
            print(f"Set aside: what was there is in {aside}{final}")

    # ------------------------------------------------------------------------ experiment.json

    def _list(self):
        """Add these runs to experiment.json where they are missing.

        A process that started at the same moment may have written the file without them.
        """
        names = {run.folder.name for run in [*self.runs, *self.combinations]}
        if not names <= {*read_about(self.folder).get("runs", ())}:
            write(self.folder / ABOUT, json.dumps(self.about(), indent=2) + "\n")

    def about(self) -> dict[str, Any]:
        """The new content of experiment.json; it keeps the runs of earlier starts, if any."""
        settings, constants = self.settings, self.settings.constants()
        earlier = read_about(self.folder) if self.begun() else {}
        runs = [run.folder.name for run in [*self.runs, *self.combinations]]
        about = {"started": utc(), "constants": constants, **self.data.names}
        about |= {"label_names": self.data.task.label_names, "data": self.data.about()}
        about |= {"digests": self.data.digests, "command": settings.command, "runs": runs}
        if earlier:
            with reading(str(self.folder / ABOUT), DAMAGED):
                for name in ("methods", "seeds"):
                    constants[name] = _union(earlier["constants"][name], constants[name])
                about |= {"runs": _union(earlier["runs"], runs), "started": earlier["started"]}
                commands = _union(starts(earlier["command"]), [settings.command])
                about["command"] = " && ".join(commands)
        environment = hardware.environment(self.data.device)
        if earlier and not self.left():  # keep the environment that made the runs
            environment = {name: earlier.get(name, value) for name, value in environment.items()}
        return about | environment


def is_held(path: Path) -> bool:
    """Whether another process holds the run with this lock file."""
    with held(path) as free:
        return not free


def held_runs(folder: Path) -> list[str]:
    """The names of the runs in an experiment's folder that other processes hold."""
    locks = sorted(folder.glob(f"*-seed*/{LOCK}"))
    return [path.parent.name for path in locks if is_held(path)]


def _union(before, now):
    return before + [each for each in now if each not in before]
