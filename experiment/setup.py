"""What stands before the first run: data, base model and device.

Bad input is refused here, in one line, before anything is trained or deleted.
"""

import sys
from importlib.util import find_spec

import datasets
import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoModelForSequenceClassification

import data_utils
import hardware
import modeling
from boundary import BadInput, reading
from modeling import PeftModel

from . import processes
from .experiment import Experiment
from .results_folder import open_folder
from .settings import Presets, Settings
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
    for seed in settings.seeds:
        experiment.reviews(seed)  # too few labels are refused before anything is trained
    experiment.splits(settings.seeds[0])
    models = _build_without_weights(experiment)
    experiment.depths.update(model.frozen_blocks for model in models.values())
    if settings.store_states and any(experiment.depths):
        check_cache()
    open_folder(experiment)
    if processes.leads():
        _print_data(experiment, models)
    if settings.parallel == "runs":
        processes.leave()
    return experiment


def _build_without_weights(experiment) -> dict[str, PeftModel]:
    """Each method's model, of shapes alone; a config or a choice that cannot be is refused."""
    models, pooling = {}, experiment.settings.pooling
    with torch.device("meta"):
        what = f"the config of MODEL {experiment.settings.model}"
        with reading(what, "choose another MODEL"):
            modeling.METHODS["head"](_without_weights(experiment.config))
        for run in experiment.runs():
            if not run.method.is_baseline and run.method.text not in models:
                classifier = _without_weights(experiment.config)
                models[run.method.text] = run.method.build(classifier, pooling)
    return models


def _without_weights(config):
    return AutoModelForSequenceClassification.from_config(config)


def _print_title(settings, device):
    what = "Tuning for experiment" if settings.tune else "Experiment"
    own = settings.experiment != settings.preset
    preset = f"values of {settings.preset}" if own else f"of {', '.join(Presets._fields)}"
    print(
        f"{what} {settings.experiment} ({preset}): "
        f"{', '.join(method.text for method in settings.methods)} on {settings.model} model and "
        f"{settings.dataset} data, seeds: {', '.join(map(str, settings.seeds))}; "
        f"{processes.describe(device)}"
    )
    if processes.launched():
        what = "they take runs in turn" if settings.parallel == "runs" else "they share each run"
        print(f"PARALLEL is {settings.parallel}: {what}")


def _print_data(experiment, models):
    settings = experiment.settings
    splits, reviews = experiment.splits(settings.seeds[0]), experiment.reviews(settings.seeds[0])
    counts = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
    print(f"Reviews: {counts}; labels {', '.join(experiment.label_names)}")
    print(*(f"  {note}" for note in reviews.notes), sep="\n")
    side = {"left": "last", "right": "first"}[settings.truncation]
    print(
        f"  {splits['train'].truncated:.0%} of the training reviews truncated to their {side} "
        f"{settings.max_tokens} tokens"
    )
    frozen_somewhere = any(model.frozen_blocks for model in models.values())
    if settings.encoder_dropout != 0 and frozen_somewhere:
        print("  ENCODER_DROPOUT acts in the blocks that learn; those before them have no dropout")
    runs = [run.record() for run in experiment.runs()]
    todo = sum(not (record and record.is_finished) for record in runs)
    finished = f"; finished already: {len(runs) - todo} (--fresh starts over)"
    what = "Learning rates to try" if settings.tune else "Runs to do"
    print(f"{what}: {todo}{finished if todo < len(runs) else ''}")
