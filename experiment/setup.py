"""What stands before the first run: data, base model, device, and what the methods will take.

All that cannot be is refused here, in one line, before anything is trained or deleted.
"""

import sys

import datasets
import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoModelForSequenceClassification

import data_utils
import hardware
import modeling
from boundary import check_room, reading
from modeling import PeftModel

from . import live, processes
from .experiment import Experiment
from .folder import open_folder
from .settings import Presets, Settings
from .state_cache import check_cache


def prepare(settings: Settings) -> Experiment:
    """Load everything, refuse what cannot be, open the folder, and print what is to do.

    Raises `BadInput`.
    """
    processes.join()
    if processes.quiet() or not sys.stderr.isatty():
        datasets.disable_progress_bars()
    hub_logging.set_verbosity_error()  # a hub that is out of reach gets one line, ours
    device = hardware.choose_device()
    hardware.prepare_device(device)
    if processes.leads():
        _print_title(settings, device)
    if settings.tensorboard:
        live.check()
    examples = settings.train_examples, settings.validation_examples, settings.test_examples
    data = data_utils.load_reviews(
        settings.dataset, settings.text_column, settings.label_column, examples, settings.split_seed
    )
    bundled = settings.model in data_utils.ENCODERS
    source = str(data_utils.encoder_folder(settings.model)) if bundled else settings.model
    config = modeling.load_config(source, data.label_names, settings.encoder_dropout)
    tokenizer = modeling.load_tokenizer(source, config, settings.max_tokens, settings.truncation)
    names = ("train", "validation") if settings.tune else ("train", "validation", "test")
    splits = {
        name: data_utils.tokenise(getattr(data, name), tokenizer).to(device) for name in names
    }
    base = modeling.fingerprint(modeling.load_pretrained(source, config))  # each run loads it anew
    experiment = Experiment(settings, device, config, base, tokenizer, splits, data.notes)
    models = _build_without_weights(experiment)
    _check_disk(experiment, models)
    check_cache(models.values(), list(splits.values()), settings)
    open_folder(experiment)
    if processes.leads():
        _print_data(experiment, models)
    if settings.parallel == "runs":
        processes.leave()
    return experiment


def _build_without_weights(experiment) -> dict[str, PeftModel]:
    """Each method's model, of shapes alone; what cannot be built is refused."""
    models, pooling = {}, experiment.settings.pooling
    for run in experiment.runs():
        if not run.method.is_baseline and run.method.text not in models:
            what = f"METHODS {run.method.text} for MODEL {experiment.settings.model}"
            with reading(what, "change one of them"), torch.device("meta"):
                classifier = AutoModelForSequenceClassification.from_config(experiment.config)
                models[run.method.text] = run.method.build(classifier, pooling)
                models[run.method.text].fingerprint = experiment.base
    return models


def _check_disk(experiment, models):
    """`BadInput` where the results' disk has no room for what the runs to do will write.

    A run leaves its trained tensors in float32; while it is unfinished its state is twice on the
    disk, the old and the new one, each with those tensors, the best ones and AdamW's two numbers.
    """
    runs = [run for run in experiment.runs() if experiment.settings.fresh or not run.is_finished]
    texts = [run.method.text for run in runs if not run.method.is_baseline]
    sizes = [4 * models[text].count_parameters()[0] for text in texts]
    needed = sum(sizes) + 8 * max(sizes, default=0) + 50 * 2**20
    remedy = "make room, or set RESULTS to another disk"
    check_room(experiment.folder, needed, "this experiment", remedy)


def _print_title(settings, device):
    what = "Tuning for experiment" if settings.tune else "Experiment"
    others = [name for name in Presets._fields if name != settings.experiment]
    preset = f" (others: {', '.join(others)})" if len(others) < len(Presets._fields) else ""
    print(
        f"{what} {settings.experiment}{preset}: "
        f"{', '.join(method.text for method in settings.methods)} on {settings.model} model and "
        f"{settings.dataset} data, seeds: {', '.join(map(str, settings.seeds))}; "
        f"{processes.describe(device)}"
    )
    if processes.launched():
        what = "they take runs in turn" if settings.parallel == "runs" else "they share each run"
        print(f"PARALLEL is {settings.parallel}: {what}")


def _print_data(experiment, models):
    splits, settings = experiment.splits, experiment.settings
    counts = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
    print(f"Reviews: {counts}; labels {', '.join(experiment.label_names)}")
    print(*(f"  {note}" for note in experiment.notes), sep="\n")
    side = {"left": "last", "right": "first"}[settings.truncation]
    print(
        f"  {splits['train'].truncated:.0%} of the training reviews truncated to their {side} "
        f"{settings.max_tokens} tokens"
    )
    frozen_somewhere = any(model.frozen_blocks for model in models.values())
    if settings.encoder_dropout != 0 and frozen_somewhere:
        print("  ENCODER_DROPOUT acts in the blocks that learn; those before them have no dropout")
    runs = experiment.runs()
    todo = sum(not run.is_finished for run in runs)
    finished = f"; finished already: {len(runs) - todo} (--fresh starts over)"
    what = "Learning rates to try" if settings.tune else "Runs to do"
    print(f"{what}: {todo}{finished if todo < len(runs) else ''}")
