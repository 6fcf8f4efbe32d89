"""The folder of an experiment: opened, perhaps started over, and written when no run is left."""

import json
import shutil
import textwrap
from contextlib import ExitStack, suppress

from boundary import BadInput, reading, write
from evaluation import plots, report, tables
from evaluation.results import Results
from records import RunRecord, record_files, run_folders

from . import processes, tuning
from .experiment import ABOUT, Experiment
from .runs import LOCK, OUTPUTS, STATE, at_work, folder_lock, held

# Written beside the runs' folders.
FILES = ("runs.csv", "history.csv", "misclassified.csv", "report.md", "report.html", *plots.FILES)
FILES += ("tuning.csv", "tuning.png")
OTHER = "choose another EXPERIMENT name or RESULTS folder"


def open_folder(experiment: Experiment) -> None:
    """Start the experiment in its folder, or resume it; --fresh deletes what it left before.

    Raises `BadInput` where the folder is not an experiment's, or has runs of other constants, and
    where --fresh would delete what another process is at work on. The first of the processes that
    torchrun has started opens it for all.
    """
    folder = experiment.folder
    processes.barrier()  # before anything is deleted
    if processes.leads():
        with folder_lock(folder):
            found = [name for name in FILES if (folder / name).exists()]
            found += [run.name for run in run_folders(folder)]
            if found and not (folder / ABOUT).exists():
                raise BadInput(f"{folder} has {found[0]} and no {ABOUT}: no experiment; {OTHER}")
            if experiment.settings.fresh and (folder / ABOUT).exists():
                _delete(experiment)
            experiment.check_same()
            busy = at_work(folder)
            for run in experiment.runs():
                if run.name not in busy:
                    run.check()
            write(folder / ABOUT, json.dumps(experiment.about(), indent=2) + "\n")
    processes.barrier()


def _delete(experiment):
    """Delete what an experiment leaves, by name, the runs first and experiment.json last."""
    folder = experiment.folder
    runs = run_folders(folder)
    with ExitStack() as stack:
        for run in runs:
            if not stack.enter_context(held(run / LOCK)):
                raise BadInput(
                    f"another process is at work on {run}; wait for it, or choose another "
                    "EXPERIMENT name"
                )
        for run in runs:
            _remove(run, *OUTPUTS, STATE, *(path.name for path in run.glob("events.out.tfevents*")))
    for run in runs:
        _remove(run, LOCK)
        with suppress(OSError):  # it holds something of the user's
            run.rmdir()
    _remove(folder, *FILES, ABOUT)


def _remove(folder, *names):
    for name in names:
        with reading(str(folder / name), OTHER, "deleted"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / f"{name}.part", ignore_errors=True)


def summarise(experiment: Experiment) -> int:
    """Write tables, figures and page of all finished runs, and print them; returns exit status.

    1 where a run has failed (in tuning: every run of a method), else 0. All of it is left to the
    last of the processes that torchrun has started, and the page to the last of all that are at
    work on the experiment. Raises `BadInput` where one of them had other constants.
    """
    with folder_lock(experiment.folder):
        others, last = at_work(experiment.folder), processes.last_to_end()
        if last and not others:
            experiment.check_same()  # none of them may have had other constants
            tuning.summarise(experiment) if experiment.settings.tune else _write_page(experiment)
    if not last:
        return 0  # for a failure torchrun would end the others
    if others:
        print(f"Other processes are at work on {', '.join(others)}; the last one writes the page")
    if experiment.settings.tune:
        table = tuning.collect(experiment)
        return int(len(table) > 0 and not table.groupby("method")["chosen"].any().all())
    records = [run.record() for run in experiment.runs()]
    return int(any(record and not record.is_finished for record in records))


def _write_page(experiment):
    folder = experiment.folder
    if not any(RunRecord.read(path).is_finished for path in record_files(folder)):
        return
    test = experiment.splits(experiment.settings.seeds[0])["test"]
    results = Results.read(folder, test.texts)
    written = report.write(results)
    print(tables.terminal(results))
    names = ", ".join(path.name for path in reversed(written))
    print(f"Written to {folder}, beside a folder for each run:")
    print(textwrap.fill(names, 96, initial_indent="  ", subsequent_indent="  "))
