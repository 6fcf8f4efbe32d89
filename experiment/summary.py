"""What is said and written when a process has no run left to do."""

import textwrap

from evaluation import report, tables
from evaluation.results import Results

from . import processes, tuning
from .experiment import Experiment
from .folder import any_finished, at_work, folder_lock


def summarise(experiment: Experiment) -> int:
    """Write tables, figures and page of all finished runs, and print them; returns exit status.

    1 where a run has failed (in tuning: every rate of a method), else 0. While other processes
    are at work on the experiment this is left to the last of them; of those that torchrun has
    started only one does it, be it that two end together.
    """
    with folder_lock(experiment.folder):
        others = at_work(experiment.folder)
        if processes.leads() and not others and processes.first_to_print("summary"):
            tuning.summarise(experiment) if experiment.settings.tune else _write_all(experiment)
    if others and processes.launched():
        return 0  # for a failure torchrun would end the others; the last one gives it
    if others:
        print(f"Other processes are at work on {', '.join(others)}; the last one writes the page")
    if experiment.settings.tune:
        table = tuning.collect(experiment)
        return int(len(table) > 0 and not table.groupby("method")["chosen"].any().all())
    return int(any(run.status.startswith("failed") for run in experiment.runs()))


def _write_all(experiment):
    if not any_finished(experiment.folder):
        return
    results = Results.read(experiment.folder, experiment.splits["test"].texts)
    written = report.write(results)
    print(tables.terminal(results))
    names = ", ".join(path.name for path in reversed(written))
    print(f"Written to {experiment.folder}, beside a folder for each run:")
    print(textwrap.fill(names, 96, initial_indent="  ", subsequent_indent="  "))
