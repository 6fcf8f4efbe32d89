"""What stands before the first run: the data, the models that will be built, and what both owe.

All that cannot be is refused here, in one line, before anything is trained or deleted.
"""

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

import data_utils
import modeling
from evaluation import machine


def prepare(settings):
    """Load everything, and refuse what cannot be: (source, config, data, tokens)."""
    embedded = settings.model == data_utils.EMBEDDED
    source = str(data_utils.encoder_folder()) if embedded else settings.model
    examples = settings.train_examples, settings.validation_examples, settings.test_examples
    data = data_utils.load_reviews(
        settings.dataset, settings.text_column, settings.label_column, examples, settings.split_seed
    )
    config, tokenizer = modeling.load_config(source, data.label_names, settings.encoder_dropout)
    positions = modeling.max_positions(config)
    if settings.max_tokens > positions:
        raise ValueError(
            f"MAX_TOKENS is {settings.max_tokens}, but {settings.model} has {positions} positions; "
            f"set it to {positions} or less"
        )
    tokens = {
        split: data_utils.tokenise(getattr(data, split), tokenizer, settings.max_tokens)
        for split in ("train", "validation", "test")
    }
    modeling.load_pretrained(source, config)  # each run loads it anew; damaged weights end here
    return source, config, data, tokens


def describe(settings, data, tokens):
    """What `experiment.json` says besides the constants and the machine."""
    return {
        "constants": vars(settings),
        "model": names(settings.model, data_utils.embedded.ENCODER),
        "data_set": names(settings.dataset, "IMDB's train split"),
        "label_names": data.label_names,
        "data": {split: len(part) for split, part in tokens.items()}
        | {f"{split}_share_cut_at_max_tokens": part.truncated for split, part in tokens.items()}
        | {"notes": data.notes},
    }


def names(constant, embedded_name):
    """A model or data set as files and plots should call it."""
    return f"{embedded_name} (embedded)" if constant == data_utils.EMBEDDED else constant


def build(method, pretrained, settings):
    """Put a method around a pretrained classifier."""
    hyperparameters = {
        "adapter": {"bottleneck": settings.adapter_bottleneck},
        "lora": {
            "rank": settings.lora_rank,
            "alpha": settings.lora_alpha,
            "dropout": settings.lora_dropout,
            "targets": settings.lora_targets,
            "rank_stabilised": settings.lora_rank_stabilised,
        },
    }
    return modeling.METHODS[method](pretrained, **hyperparameters.get(method, {}))


def skeletons(methods, config, settings, device):
    """Each method's model, of shapes without weights: what cannot be built is refused here."""
    with torch.device("meta"):
        models = {
            method: build(method, AutoModelForSequenceClassification.from_config(config), settings)
            for method in methods
            if method != modeling.TFIDF
        }
    for method, model in models.items():
        trained, total = model.count_parameters()
        needed = 4 * (total + 3 * trained)  # the weights; a gradient and AdamW's two moments
        if needed > machine.total_memory(device):
            raise ValueError(
                f"{method} needs {needed / 2**30:,.1f} GiB for its weights and gradients, and "
                f"{machine.describe(device)} has {machine.total_memory(device) / 2**30:,.1f} GiB; "
                "lower LORA_RANK or ADAPTER_BOTTLENECK, or choose a smaller MODEL"
            )
    return models


def rough_duration(settings, todo, models, tokens, device):
    """Seconds, from the arithmetic owed and a quick test of the device's matrix products.

    `todo` are the methods, one for each run. A pass forward owes 2 operations a weight and
    token, the pass back to the added weights as many again, and the gradients of all weights,
    for full fine-tuning, once more.
    """
    train_tokens, validation_tokens, test_tokens = (int(t.lengths.sum()) for t in tokens.values())
    once = train_tokens + validation_tokens + test_tokens
    passes = 0
    for method in todo:
        if method == modeling.TFIDF:
            continue
        block_weights = sum(p.numel() for p in models[method].blocks.parameters())
        passes_back = 2 if method == "full" else 1
        epoch = (1 + passes_back) * train_tokens + validation_tokens
        passes += once + (0 if models[method].encoder_is_frozen else settings.epochs * epoch)
    usual = 0.6 * machine.matrix_rate(device)  # attention and the rest take their share
    return 2 * block_weights * passes / usual if passes else 0.0


def check_disk(folder: Path, todo, models):
    """Raise `ValueError` where the disk of `folder` has no room for what `todo` will write.

    A run leaves its trained tensors in float32; while it is under way its state is twice on the
    disk, the old and the new one, each the trained tensors and AdamW's two numbers for each.
    """
    sizes = [4 * models[m].count_parameters()[0] for m in todo if m in models]
    needed = sum(sizes) + 6 * max(sizes, default=0) + 50 * 2**20
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"{folder} is on a disk with {free / 2**20:,.0f} MiB free, and this experiment needs "
            f"about {needed / 2**20:,.0f}; make room, or set RESULTS to another disk"
        )
