"""From the constants to the answer: the steps before the first run and after the last."""

import os
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoModelForSequenceClassification

import boundary
import hardware
import modeling
from boundary import BadInput, plain_cell, reading, sheet, write
from evaluation import advice, answer, report, tables
from evaluation.results import Results
from records import records_in

from .command import parse
from .data import Data
from .queue import RunQueue, held_runs
from .runs import Run
from .settings import Settings
from .work import combine, fine_tune, fit_baseline, save_final

MANY = 10_000  # training texts with which fine-tuning may take hours on a CPU


def run_experiment(
    namespace: dict[str, Any],
    arguments: list[str],
    loop: tuple[Callable[..., None], Callable],
    fit: Callable[[Run, Data, Settings], None] = fit_baseline,
    program: tuple[str, ...] = (),
) -> int:
    """Parse, load, run and answer; returns the exit status.

    The status is 0, or 1 for failed runs, a full disk or memory, 2 for bad input, 130 for an
    interruption, which keeps finished runs and says so.

    `loop` is finetuning.py's train and evaluate; `fit` does a run of a method in BASELINES.
    `program` is the program in the command that resumes the experiment, where it is not
    finetuning.py, such as ("-m", "studies.setfit").
    """
    began, settings = time.perf_counter(), None
    boundary.interrupt_once()
    boundary.steady_output()
    try:
        settings = parse(namespace, arguments, program)
        queue = prepare(settings)
        try:
            for run in queue:
                with run.at_work():
                    if run.method.is_baseline:
                        fit(run, queue.data, settings)
                    else:
                        fine_tune(run, queue.data, settings, *loop)
        finally:
            print(f"The runs ended after {time.perf_counter() - began:.0f} s, loading included")
            status = summarise(queue)
        return status
    except BadInput as error:
        return boundary.refuse(error, arguments)
    except KeyboardInterrupt:
        stop, status = "interrupted", 130
    except OSError as error:  # such as a full disk
        stop, status = f"stopped ({boundary.reason(error)})", 1
    except (MemoryError, RuntimeError) as error:  # such as a GPU that others fill
        if not hardware.is_out_of_memory(error):
            raise
        stop, status = f"stopped: {hardware.OUT_OF_MEMORY}", 1
    resume = f"; resume with: {settings.command}" if settings else ""
    print(f"{stop}: what is finished is kept{resume}", file=sys.stderr)
    return status


# ---------------------------------------------------------------------------- before


def prepare(settings: Settings) -> RunQueue:
    """Load everything, refuse bad input before anything is trained or deleted, open the folder.

    Raises `BadInput`.
    """
    if not sys.stderr.isatty():
        os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # read at the import of `datasets`
    hub_logging.set_verbosity_error()  # a hub that is out of reach gets one line, ours
    device = hardware.choose_device()
    hardware.prepare_device(device)
    _print_title(settings, device)
    data = Data(settings, device)
    _print_data(data)
    queue = RunQueue(settings, data)
    data.depths = _frozen_blocks(queue)  # too few labels are refused here, too
    queue.open()
    _print_runs(queue)
    return queue


def _frozen_blocks(queue) -> set[int]:
    """The methods' numbers of frozen blocks, by models without weights. Raises `BadInput`."""
    config, settings, depths = queue.data.encoder.config, queue.settings, set()
    methods = {run.method.text: run.method for run in queue.runs}.values()
    with torch.device("meta"):
        with reading(f"the config of MODEL {settings.model}", "choose another MODEL"):
            modeling.METHODS["head"](AutoModelForSequenceClassification.from_config(config))
        for method in methods:
            pretrained = AutoModelForSequenceClassification.from_config(config)
            if method.name == modeling.PROBE:
                pooling = method.hyperparameters.get("pooling") or "mean"
                depths.add(modeling.METHODS["head"](pretrained, pooling).frozen_blocks)
            elif not method.is_baseline:
                depths.add(method.build(pretrained, "mean").frozen_blocks)
    is_probed = settings.pooling == "auto" and not all(each.is_baseline for each in methods)
    return depths | ({config.num_hidden_layers} if is_probed else set())


def _print_title(settings, device):
    print(
        f"Experiment {settings.experiment}, preset {settings.preset}: "
        f"{', '.join(method.text for method in settings.methods)}; model {settings.model}, "
        f"data {settings.dataset}, seeds {', '.join(map(str, settings.seeds))}; "
        f"{hardware.describe(device)}"
    )


def _print_data(data):
    sizes = []
    for name in ("train", "validation", "test"):
        counts = [len(getattr(each, name)) for each in data.divisions.values()]
        most = f" to {max(counts):,}" * (min(counts) < max(counts))
        sizes.append(f"{min(counts):,}{most} {name}")
    each = "in each of the runs' splits: " if len(data.divisions) > 1 else ""
    print(f"Texts: {len(data.texts):,} used; {each}{', '.join(sizes)}")
    print(*(f"  {note}" for note in data.notes), sep="\n")
    share, side = data.texts.truncated_share, data.settings.truncation
    end = {"left": "last", "right": "first"}[side]
    longest = f"longest text {max(map(len, data.texts.texts)):,} letters"
    tokens = f"{end} {data.settings.max_tokens} tokens"
    tokens += "; see --max-tokens and --truncation" if share > answer.MUCH else ""
    print(f"  {longest}; {share:.0%} of the texts truncated to their {tokens}")
    for warning in data.warnings:
        print(f"warning: {warning}")


def _print_runs(queue):
    left, every = len(queue.left()), len(queue.runs)
    finished = f"; finished already: {every - left} (--fresh starts over)"
    print(f"Runs to do: {left}{finished if left < every else ''}")
    texts = max(len(division.train) for division in queue.data.divisions.values())
    is_slow = queue.data.device.type == "cpu" and not queue.settings.final
    if is_slow and texts > MANY and not all(run.method.is_baseline for run in queue.left()):
        print(f"warning: training on {texts:,} texts may take hours on a CPU; first you may give")
        print("  --labels 2000 --test-examples 400, as another --experiment")
    records = filter(None, (run.record() for run in queue.runs))
    codes = {(record.code or "").rstrip("+") for record in records}
    if hardware.commit() and codes - {hardware.commit().rstrip("+"), ""}:
        print("warning: runs were made, or begun, by other code: see run.json; --fresh starts over")
    for line in queue.compared_otherwise():
        print(f"warning: {line}")


# ---------------------------------------------------------------------------- after


def summarise(queue: RunQueue) -> int:
    """Print and write tables, figures and page of all finished runs; returns the exit status.

    Where several processes are at work on the experiment, only the last one does so.
    """
    with queue.locked():
        others = held_runs(queue.folder)
        queue.check()  # no other process may have had other constants
        combine(queue)
        if not others:
            if queue.settings.final:
                save_final(queue)
            else:
                _write_page(queue)
    if others:
        print(f"Other processes are at work on {', '.join(others)}; the last one writes the page")
        return 0  # the last one tells of failures, too: torchrun would end the others
    runs = [*queue.runs, *queue.combinations]
    records = [record for run in runs if (record := run.record())]
    return int(any(each.has_failed for each in [*runs, *records]))


def _write_page(queue):
    folder, task = queue.folder, queue.data.task
    if not any(record.is_finished for record in records_in(folder).values()):
        return
    texts = task.rows.set_index("file_row")["text"]
    if not task.has_test and task.rows["split"].nunique() > 1:  # folds over several files
        texts.index = task.rows["split"] + " " + task.rows["file_row"].map(str)
    results = Results.read(folder, texts)
    print(tables.terminal(results))  # before the files, which a full disk may refuse
    written = report.write(results)
    (folder / "left_out.csv").unlink(missing_ok=True)  # an earlier start's
    if len(task.left_out):
        cells = task.left_out[["label", "text"]].map(plain_cell, na_action="ignore")
        left_out = task.left_out.assign(**cells)
        written.append(write(folder / "left_out.csv", sheet(left_out)))
    names = ", ".join(path.name for path in reversed(written))
    print(f"Written to {folder}, beside a folder for each run:")
    print(textwrap.fill(names, 96, initial_indent="  ", subsequent_indent="  "))
    if advice.advised(results):
        print(f"{answer.final_sentence(results)}:")
        print(f"  {answer.final_command(results)}")
