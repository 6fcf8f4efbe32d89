"""The folder of an experiment: opened for its constants alone, or started over."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

from boundary import BadInput, write
from evaluation.files import read_json
from evaluation.results import Results

from . import processes, tuning
from .experiment import Experiment
from .runs import LOCK, RECORD, STATE, folder_lock, held

EARLIER = ("checkpoints", "predictions")  # folders of the layout of before
TABLES = ("*.csv", "*.png", "report.*", "experiment.json")


def open_folder(experiment: Experiment) -> None:
    """Start the experiment in its folder, or resume it; --fresh deletes what is there.

    Raises `BadInput` where its runs have other constants, where a file is damaged or in the layout
    of an earlier version, where --fresh would delete what another process is at work on, and where
    processes that torchrun has started do not share it. The first of them opens it for all.
    """
    processes.barrier()  # before anything is deleted
    if processes.leads():
        _open(experiment)
    processes.check_shared(experiment.folder)


def _open(experiment):
    folder, settings = experiment.folder, experiment.settings
    with folder_lock(folder):
        _check_kinds(experiment)
        if settings.fresh:
            _delete(folder)
        elif any((folder / name).exists() for name in EARLIER):
            raise BadInput(
                f"{folder} has results of an earlier version, which this one does not read; start "
                "over with --fresh, or choose another EXPERIMENT name"
            )
        experiment.check_constants()
        busy = at_work(folder)
        for run in experiment.runs():
            if run.name not in busy:
                run.check()
        if settings.tune:
            tuning.collect(experiment)
        elif any_finished(folder):
            Results.read(folder)
        write(folder / "experiment.json", json.dumps(experiment.about(), indent=2) + "\n")


def any_finished(folder: Path) -> bool:
    """Whether there is a run to report on, be it one that is asked for or not."""
    records = folder.glob(f"*/{RECORD}")
    return any(read_json(path, ["status"])["status"] == "finished" for path in records)


def _check_kinds(experiment):
    """`BadInput` where a folder stands in the place of a file, or a file in that of a run."""
    folder = experiment.folder
    for run in experiment.runs():
        if run.folder.exists() and not run.folder.is_dir():
            raise BadInput(f"{run.folder} is a file where a run's folder is made; move it away")
    for path in (path for pattern in (*TABLES, "*/*") for path in folder.glob(pattern)):
        if path.is_dir() and path.parent.name not in EARLIER:
            raise BadInput(f"{path} is a folder where a file is written; move it away")


def at_work(folder: Path) -> list[str]:
    """The names of the runs in `folder` that other processes hold."""
    names = []
    for lock in sorted(folder.glob(f"*/{LOCK}")):
        with held(lock) as free:
            if not free:
                names.append(lock.parent.name)
    return names


def _delete(folder):
    """Delete all that an experiment leaves, and nothing else; every run is held meanwhile."""
    runs = {p.parent for name in (LOCK, RECORD, STATE) for p in folder.glob(f"*/{name}")}
    with ExitStack() as stack:
        for run in sorted(runs):
            if not stack.enter_context(held(run / LOCK)):
                raise BadInput(
                    f"another process is at work on {run}; wait for it, or choose another "
                    "EXPERIMENT name"
                )
        for path in (*runs, *(folder / name for name in EARLIER)):
            shutil.rmtree(path, ignore_errors=True)
    for pattern in TABLES:
        for path in folder.glob(pattern):
            path.unlink()
