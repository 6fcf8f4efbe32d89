"""From the constants to the answer: what stands before the first run and after the last."""

import shlex
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import datasets
import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoModelForSequenceClassification

import boundary
import hardware
import modeling
from boundary import BadInput, clear, plain_cell, reading, write
from evaluation import report, tables
from evaluation.results import Results
from records import ABOUT, RunRecord, record_files

from . import processes
from .baselines import combine, fit_baseline, save_final
from .data import Data
from .queue import FILES, RunQueue
from .runs import Run
from .settings import Settings, parse, resume_command
from .state_cache import check_cache

Act = Callable[[Run, Data, Settings], None]


def run_experiment(
    namespace: dict[str, Any],
    arguments: list[str],
    fine_tune: Act,
    fit: Act = fit_baseline,
    program: tuple[str, ...] = (),
) -> int:
    """Parse, load, run and answer; returns the exit status: 0, 1 for failed runs, 2 for bad input.

    `fine_tune` does a run of a method in METHODS, `fit` one of a method in BASELINES; a program of
    its own may add to both, and gives what resumes it, such as ("-m", "studies.setfit").
    What is finished when it is interrupted is kept, and told.
    """
    began, settings = time.perf_counter(), None
    boundary.interrupt_once()
    boundary.steady_output()
    try:
        processes.join()
        settings = parse(namespace, arguments, program)
        queue = prepare(settings)
        loaded = time.perf_counter()
        try:
            for run in queue:
                queue.do(run, fit if run.method.is_baseline else fine_tune)
        finally:
            trained = time.perf_counter()
            status = summarise(queue)
        if processes.first_to_print("seconds"):
            print(_account(queue, began, loaded, trained))
        return status
    except BadInput as error:
        return boundary.refuse(error, arguments) if processes.first_to_print("refused") else 2
    except KeyboardInterrupt:
        stop, status = "interrupted", 130
    except OSError as error:  # a disk that is full
        stop, status = f"stopped ({boundary.reason(error)})", 1
    if processes.first_to_print("resume"):
        resume = settings.command if settings else resume_command(arguments, None, program)
        print(f"{stop}: what is finished is kept; resume with: {resume}", file=sys.stderr)
    return status


# ---------------------------------------------------------------------------- before


def prepare(settings: Settings) -> RunQueue:
    """Load everything, refuse bad input before anything is trained or deleted, open the folder.

    Raises `BadInput`.
    """
    if processes.quiet() or not sys.stderr.isatty():
        datasets.disable_progress_bars()
    hub_logging.set_verbosity_error()  # a hub that is out of reach gets one line, ours
    device = hardware.choose_device()
    hardware.prepare_device(device)
    if not processes.rank():
        _print_title(settings, device)
    data = Data(settings, device)
    data.divisions  # noqa: B018  too few labels are refused before anything is trained
    if not processes.rank():
        _print_data(data)
    queue = RunQueue(settings, data)
    data.depths = _frozen_blocks(queue)
    if settings.cache and any(data.depths):
        check_cache()
    processes.first_does(queue.open)
    if not processes.rank():
        _print_runs(queue)
    return queue


def _frozen_blocks(queue) -> set[int]:
    """How many each method has, by models of shapes alone. Raises `BadInput`."""
    data = queue.data
    depths, config = set(), data.config
    with torch.device("meta"):
        with reading(f"the config of MODEL {queue.settings.model}", "choose another MODEL"):
            modeling.METHODS["head"](AutoModelForSequenceClassification.from_config(config))
        for method in {run.method.text: run.method for run in queue.runs}.values():
            if method.name == modeling.PROBE:
                depths.add(config.num_hidden_layers)
            elif not method.is_baseline:
                pretrained = AutoModelForSequenceClassification.from_config(config)
                depths.add(method.build(pretrained, "mean").frozen_blocks)
    is_probed = queue.settings.pooling == "auto" and any(
        not r.method.is_baseline for r in queue.runs
    )
    return depths | ({config.num_hidden_layers} if is_probed else set())


def _print_title(settings, device):
    methods = [settings.final] if settings.final else settings.methods
    print(
        f"Experiment {settings.experiment}, preset {settings.preset}: "
        f"{', '.join(method.text for method in methods)}; model {settings.model}, "
        f"data {settings.dataset}, seeds {', '.join(map(str, settings.seeds))}; "
        f"{hardware.describe(device)}"
    )


def _print_data(data):
    first = next(iter(data.divisions))
    division, task = data.divisions[first], data.task
    counts = ", ".join(
        f"{len(getattr(division, n)):,} {n}" for n in ("train", "validation", "test")
    )
    each = "in each of the runs' splits: " if len(data.divisions) > 1 else ""
    print(f"Texts: {len(data.texts):,} used; {each}{counts}")
    print(*(f"  {note}" for note in [*task.notes, *division.notes]), sep="\n")
    share, side = data.texts.truncated_share, data.settings.truncation
    end = {"left": "last", "right": "first"}[side]
    print(f"  {share:.0%} of the texts truncated to their {end} {data.settings.max_tokens} tokens")
    for warning in task.warnings:
        print(f"warning: {warning}")


def _print_runs(queue):
    left, every = len(queue.left()), len(queue.runs)
    finished = f"; finished already: {every - left} (--fresh starts over)"
    print(f"Runs to do: {left}{finished if left < every else ''}")


# ---------------------------------------------------------------------------- after


def summarise(queue: RunQueue) -> int:
    """Write tables, figures and page of all finished runs, and print them; returns exit status.

    The status is left to the last of the processes that torchrun has started, and the page to the
    last of all that are at work on the experiment.
    """
    failed = any(run.has_failed for run in queue.runs)
    with queue.locked():
        others, last = queue.at_work(), processes.last_to_end()
        if last and not others:
            queue.check()  # none of them may have had other constants
            if queue.settings.final:
                save_final(queue)
            else:
                combine(queue)
                _write_page(queue)
    if not last:
        return 0  # for a failure torchrun would end the others
    if others:
        print(f"Other processes are at work on {', '.join(others)}; the last one writes the page")
    records = [run.record() for run in queue.runs]
    return int(failed or any(record and not record.is_finished for record in records))


def _write_page(queue):
    folder = queue.folder
    if not any(RunRecord.read(path).is_finished for path in record_files(folder)):
        return
    task = queue.data.task
    results = Results.read(folder, task.rows.set_index("file_row")["text"])
    written = report.write(results)
    for name in (ABOUT, *FILES):
        clear(folder / name)
    if len(task.left_out):
        left_out = task.left_out.assign(text=task.left_out["text"].map(plain_cell))
        write(folder / "left_out.csv", left_out.to_csv(index=False))
        written.append(folder / "left_out.csv")
    print(tables.terminal(results))
    names = ", ".join(path.name for path in reversed(written))
    print(f"Written to {folder}, beside a folder for each run:")
    print(textwrap.fill(names, 96, initial_indent="  ", subsequent_indent="  "))
    if results.advised:
        print("A classifier of new texts, trained on all of these:")
        print(f"  {queue.settings.command} --final {shlex.quote(results.advised)}")


def _account(queue, began, loaded, trained):
    """Where the command's time went."""
    records = [run.record() for run in queue.runs]
    records = [record for run, record in zip(queue.runs, records, strict=True) if run.start]
    seconds = {
        "loading": loaded - began,
        "training": sum(record.training_seconds or 0 for record in records if record),
        "evaluation": sum(record.evaluation_seconds or 0 for record in records if record),
        "frozen blocks": queue.data.seconds,
        "page": time.perf_counter() - trained,
    }
    whole = time.perf_counter() - began
    seconds["other"] = whole - sum(seconds.values())
    return f"{whole:.0f} s: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
