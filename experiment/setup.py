"""What stands before the first run: data, base model and device.

Bad input is refused here, in one line, before anything is trained or deleted.
"""

import sys
from functools import partial
from importlib.util import find_spec

import datasets
import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoModelForSequenceClassification

import data_utils
import hardware
import modeling
from boundary import BadInput, reading

from . import processes
from .experiment import Experiment
from .results_folder import open_folder
from .settings import Settings
from .state_cache import check_cache


def prepare(settings: Settings) -> Experiment:
    """Load everything, refuse bad input, open the folder, and print what is to do.

    Raises `BadInput`.
    """
    if processes.broadcast(settings.constants()) != settings.constants():
        raise BadInput("the processes have different constants; start all with the same ones")
    if processes.quiet() or not sys.stderr.isatty():
        datasets.disable_progress_bars()
    hub_logging.set_verbosity_error()  # a hub that is out of reach gets one line, ours
    device = hardware.choose_device()
    hardware.prepare_device(device)
    if processes.leads():
        _print_title(settings, device)
    if settings.tensorboard and not find_spec("tensorboard"):
        what = "TENSORBOARD is True and the package tensorboard is not installed"
        raise BadInput(f"{what}; run: pip install tensorboard")
    task = data_utils.load_task(
        settings.dataset, settings.text_column, settings.label_column, settings.group_column
    )
    bundled = settings.model in data_utils.ENCODERS
    source = str(data_utils.encoder_folder(settings.model)) if bundled else settings.model
    config = modeling.load_config(source, task.label_names, settings.encoder_dropout)
    tokenizer = modeling.load_tokenizer(source, config, settings.max_tokens, settings.truncation)
    base = modeling.fingerprint(modeling.load_pretrained(source, config))  # each run loads it anew
    experiment = Experiment(settings, device, config, base, tokenizer, task)
    if not experiment.runs():
        methods = ", ".join(method.text for method in settings.methods)
        raise BadInput(f"--tune has nothing to try of {methods}; add a method with a learning rate")
    for seed in settings.seeds:
        experiment.reviews(seed)  # too few labels are refused before anything is trained
    experiment.splits(settings.seeds[0])
    experiment.depths.update(_frozen_blocks(experiment))
    probed = modeling.PROBE in [method.name for method in settings.methods]
    if settings.store_states and (probed or any(experiment.depths)):
        check_cache()
    open_folder(experiment)
    if processes.leads():
        _print_data(experiment)
    if settings.parallel == "runs":
        processes.leave()
    return experiment


def _frozen_blocks(experiment) -> set[int]:
    """How many each method has, by models of shapes alone. Raises `BadInput`."""
    pretrained = partial(AutoModelForSequenceClassification.from_config, experiment.config)
    methods = {run.method.text: run.method for run in experiment.runs()}.values()
    with torch.device("meta"):
        with reading(f"the config of MODEL {experiment.settings.model}", "choose another MODEL"):
            modeling.METHODS["head"](pretrained())
        built = [method for method in methods if not method.is_baseline]
        return {m.build(pretrained(), experiment.settings.pooling).frozen_blocks for m in built}


def _print_title(settings, device):
    what = "Tuning for experiment" if settings.tune else "Experiment"
    seeds = settings.seeds[:1] if settings.tune else settings.seeds
    print(
        f"{what} {settings.experiment} (values of {settings.preset}): "
        f"{', '.join(method.text for method in settings.methods)} on {settings.model} model and "
        f"{settings.dataset} data, seeds: {', '.join(map(str, seeds))}; "
        f"{processes.describe(device)}"
    )


def _print_data(experiment):
    settings = experiment.settings
    splits, reviews = experiment.splits(settings.seeds[0]), experiment.reviews(settings.seeds[0])
    counts = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
    print(f"Reviews: {counts}; labels {', '.join(experiment.task.label_names)}")
    print(*(f"  {note}" for note in reviews.notes), sep="\n")
    side = {"left": "last", "right": "first"}[settings.truncation]
    print(
        f"  {splits['train'].truncated:.0%} of the training reviews truncated to their {side} "
        f"{settings.max_tokens} tokens"
    )
    runs = [run.record() for run in experiment.runs()]
    todo = sum(not (record and record.is_finished) for record in runs)
    finished = f"; finished already: {len(runs) - todo} (--fresh starts over)"
    print(f"Runs to do: {todo}{finished if todo < len(runs) else ''}")
