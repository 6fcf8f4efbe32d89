"""What is said and written when a process has no run left to do."""

import textwrap

from evaluation import report, tables
from evaluation.results import Results

from . import processes, tuning
from .experiment import Experiment
from .folder import any_finished, at_work
from .runs import folder_lock


def summarise(experiment: Experiment) -> int:
    """Write tables, figures and page of all finished runs, and print them; returns exit status.

    1 where a run has failed (in tuning: every rate of a method), else 0. All of it is left to the
    last of the processes that torchrun has started, and the page to the last of all that are at
    work on the experiment.
    """
    with folder_lock(experiment.folder):
        others, last = at_work(experiment.folder), processes.last_to_end()
        if last and not others:
            tuning.summarise(experiment) if experiment.settings.tune else _write_all(experiment)
    if not last:
        return 0  # for a failure torchrun would end the others
    if others:
        print(f"Other processes are at work on {', '.join(others)}; the last one writes the page")
    if experiment.settings.tune:
        table = tuning.collect(experiment)
        return int(len(table) > 0 and not table.groupby("method")["chosen"].any().all())
    return int(any(run.status.startswith("failed") for run in experiment.runs()))


def _write_all(experiment):
    if not any_finished(experiment.folder):
        return
    test = experiment.splits(experiment.settings.seeds[0])["test"]
    results = Results.read(experiment.folder, test.texts)
    written = report.write(results)
    print(tables.terminal(results))
    names = ", ".join(path.name for path in reversed(written))
    print(f"Written to {experiment.folder}, beside a folder for each run:")
    print(textwrap.fill(names, 96, initial_indent="  ", subsequent_indent="  "))
