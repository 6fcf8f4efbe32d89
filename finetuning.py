"""Compare parameter-efficient fine-tuning methods on labelled reviews.

    python finetuning.py                                    the whole comparison
    python finetuning.py --methods lora --seeds 0 1 2       any constant below, in lower case

Edit the constants, or give them on the command line; read `results/<experiment>/` afterwards.
"""

import contextlib
import gc
import math
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
from huggingface_hub.utils import logging as hub_logging
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

import data_utils
import modeling
from evaluation import machine, plots, records
from modeling import checkpoint
from settings import Columns, parse

# Two columns where the two experiments differ: "full" runs where CUDA is there, "quick" elsewhere.
# A plain value in the place of Columns(full, quick) holds for both.
EXPERIMENT = Columns("full", "quick")  # names the results' folder; these two choose a column
MODEL = Columns("distilbert/distilbert-base-uncased", data_utils.EMBEDDED)  # hub name or folder
DATASET = Columns("stanfordnlp/imdb", data_utils.EMBEDDED)  # hub name, local file or folder
TEXT_COLUMN = "text"
LABEL_COLUMN = "label"
TRAIN_EXAMPLES = Columns(None, 1200)  # None: all there are
VALIDATION_EXAMPLES = Columns(None, 400)
TEST_EXAMPLES = Columns(None, 1000)
MAX_TOKENS = Columns(512, 128)  # longer reviews are cut
METHODS = ("head", "adapter", "lora")  # also: "bitfit", and "full" fine-tuning for reference
SEEDS = Columns((0, 1, 2), (0,))  # move the head, the added weights, dropout and the order
EPOCHS = 3
PATIENCE = 2  # epochs without a lower validation loss before a run stops early
BATCH_SIZE = 32
ACCUMULATE = None  # pieces a batch is worked off in; None: whole on a GPU, to fit a CPU's caches
LEARNING_RATES = {"head": 1e-3, "adapter": 1e-3, "lora": 1e-3, "bitfit": 1e-3, "full": 1e-4}
WEIGHT_DECAY = 0.01  # not on biases and norms
WARMUP = 0.1  # share of the steps in which the learning rate rises; then it falls to 0
ENCODER_DROPOUT = 0.0  # None: the model's own
LORA_RANK = 16  # r
LORA_ALPHA = 32  # the update is scaled by alpha / r
LORA_DROPOUT = 0.0  # on the input of A
LORA_RANK_STABILISED = False  # scale by alpha / sqrt(r) instead
LORA_TARGETS = ("q", "k", "v", "o")  # q, k, v, o: attention; up, down, gate: feed-forward
ADAPTER_BOTTLENECK = 64  # m
GRADIENT_CLIP = 1.0  # largest norm of a step's gradient
SPLIT_SEED = 0  # cuts the splits and samples the reviews: the same for every method and seed
RESULTS = "results"


# ---------------------------------------------------------------------------- the loop


def train(model, reviews, states, settings, rate, seed, clock, best):
    """Train `model` on reviews["train"], and leave its best epoch by validation loss in it.

    `states` are the encoder's, by split, where it is frozen, and None where it learns. Returns
    the history, a dict for each epoch. The trained tensors of the best epoch are kept in the
    file `best`. Raises `FloatingPointError` where a loss is not finite.
    """
    lengths, labels = reviews["train"].lengths, reviews["validation"].labels
    optimizer, schedule = optimisation(model, len(lengths), settings, rate)
    history, best_epoch, best_loss = [], 0, math.inf
    bar = tqdm(range(1, settings.epochs + 1), desc=best.parent.name, unit="epoch", disable=None)
    for epoch in bar:
        batches = data_utils.training_batches(lengths, settings.batch_size, seed, epoch)
        row = {"epoch": epoch}
        with clock:
            loss, accuracy = train_epoch(
                model, reviews["train"], states["train"], batches, optimizer, schedule, settings
            )
        row |= {"train_loss": loss, "train_accuracy": accuracy}
        logits = predict(model, reviews["validation"], states["validation"], settings, clock.device)
        loss, accuracy = score(logits, labels)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the validation loss is {loss} after epoch {epoch}")
        row |= {"validation_loss": loss, "validation_accuracy": accuracy}
        row |= {"learning_rate": schedule.get_last_lr()[0], "seconds": clock.seconds}
        history.append(row)
        bar.set_postfix(validation_loss=f"{loss:.3f}")
        if loss < best_loss:
            best_epoch, best_loss = epoch, loss
            checkpoint.save_trained(model, best)
        elif epoch - best_epoch >= settings.patience:
            break
    bar.close()
    checkpoint.load_trained(model, best)
    return history


def train_epoch(model, reviews, states, batches, optimizer, schedule, settings):
    """One pass over the training reviews; returns their mean loss and accuracy on the way."""
    device = model.pretrained.device
    model.train()
    labels = reviews.labels.to(device)
    losses, right = [], torch.zeros((), device=device)
    bar = tqdm(batches, desc="steps", leave=False, disable=None)
    for index in bar:
        loss = torch.zeros((), device=device)
        for piece in data_utils.pieces(reviews.lengths, index, tokens_at_once(settings, device)):
            rows = torch.from_numpy(piece).to(device)
            if states is None:
                logits = model.classify(encode_batch(model, reviews, piece, device))
            else:
                logits = model.classify(states[rows])  # (N, d) -> (N, C)
            part = cross_entropy(logits, labels[rows], reduction="sum") / len(index)
            part.backward()
            loss += part.detach()
            right += (logits.argmax(1) == labels[rows]).sum()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss)
        if not bar.disable and len(losses) % 10 == 0:
            bar.set_postfix(loss=f"{torch.stack(losses[-10:]).mean():.3f}")
    losses = torch.stack(losses).cpu()  # the one wait for the device, at the epoch's end
    if not losses.isfinite().all():
        step = (~losses.isfinite()).nonzero()[0].item()
        raise FloatingPointError(f"the loss is {losses[step]:.0f} at step {step + 1} of its epoch")
    sizes = torch.tensor([len(index) for index in batches])
    return (losses * sizes).sum().item() / len(reviews), right.item() / len(reviews)


def optimisation(model, examples, settings, rate):
    """AdamW on the trainable parameters, and the learning rate's warm-up and linear fall."""
    parameters = list(model.trainable_parameters().values())
    matrices = {"params": [p for p in parameters if p.ndim > 1]}
    vectors = {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW(
        [matrices, vectors], rate, weight_decay=settings.weight_decay, fused=True
    )
    steps = settings.epochs * math.ceil(examples / settings.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, round(settings.warmup * steps), steps)
    return optimizer, schedule


def encode_batch(model, reviews, index, device):
    """The states (N, d) of the reviews at `index`; the encoder in bf16 where that is faster."""
    inputs = (tensor.to(device, non_blocking=True) for tensor in reviews.batch(index))
    bf16 = machine.compute_type(device) is torch.bfloat16
    with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
        return model.encode(*inputs).float()  # (N, T) -> (N, d); the head computes in float32


def tokens_at_once(settings, device):
    """How many tokens, pads included, are worked on together.

    A CPU does best where the numbers between two operations stay in its caches.
    """
    if settings.accumulate is None and device.type == "cpu":
        return 2048
    return math.ceil(settings.batch_size * settings.max_tokens / (settings.accumulate or 1))


@torch.no_grad()
def encode(model, reviews, settings, device):
    """The states (n, d) of all reviews, in their order, without dropout."""
    model.eval()
    everything = np.arange(len(reviews))
    batches = data_utils.pieces(reviews.lengths, everything, tokens_at_once(settings, device))
    states = torch.cat([encode_batch(model, reviews, index, device) for index in batches])
    order = torch.from_numpy(np.concatenate(batches)).argsort()
    return states[order.to(device)]


@torch.no_grad()
def predict(model, reviews, states, settings, device):
    """The logits (n, C) of all reviews, in their order; from the encoder's states where kept."""
    model.eval()
    if states is None:
        states = encode(model, reviews, settings, device)
    return model.classify(states).cpu()


def score(logits, labels):
    """Mean loss per review and accuracy."""
    right = (logits.argmax(1) == labels).sum().item()
    return cross_entropy(logits, labels).item(), right / len(labels)


# ---------------------------------------------------------------------------- one run


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


def place(method, pretrained, settings, device):
    """Put a method around a pretrained classifier, and the model on its device."""
    if device.type == "cpu":
        modeling.use_plain_attention(pretrained)
    return build(method, pretrained, settings).to(device)


def run(method, seed, reviews, source, config, settings, device, folder):
    """One run, from the seed to the test: (row, history, changes of the model, test logits)."""
    gc.collect()
    machine.reset_peak_memory(device)
    torch.manual_seed(seed)
    model = place(method, modeling.load_pretrained(source, config), settings, device)
    clock, states = machine.Clock(device), dict.fromkeys(reviews)
    if model.encoder_is_frozen:
        with clock:  # it says the same in every epoch, so it runs once
            states["train"] = encode(model, reviews["train"], settings, device)
        for split in ("validation", "test"):
            states[split] = encode(model, reviews[split], settings, device)
    kept = folder / "checkpoints" / f"{method}-seed{seed}"
    best = kept / checkpoint.TENSORS
    rate = settings.learning_rates[method]
    history = train(model, reviews, states, settings, rate, seed, clock, best)
    peak = machine.peak_memory(device)
    best_epoch = min(history, key=lambda epoch: epoch["validation_loss"])
    row = {name: best_epoch[name] for name in ("validation_loss", "validation_accuracy")}
    for split in ("train", "test"):
        logits = predict(model, reviews[split], states[split], settings, device)
        row[f"{split}_loss"], row[f"{split}_accuracy"] = score(logits, reviews[split].labels)
    modeling.save_checkpoint(
        model, kept, source, list(config.id2label.values()), settings.max_tokens
    )
    some = reviews["validation"].batch(np.arange(min(32, len(reviews["validation"]))))
    base = modeling.load_pretrained(source, config).to(device)
    changes = modeling.changes(model, base, *(tensor.to(device) for tensor in some))
    trainable, total = model.count_parameters()
    row |= {
        "trainable_parameters": trainable,
        "total_parameters": total,
        "trainable_percentage": 100 * trainable / total,
        "training_seconds": clock.seconds,
        "epochs_run": len(history),
        "best_epoch": best_epoch["epoch"],
        "examples_per_second": len(history) * len(reviews["train"]) / clock.seconds,
        "tokens_per_second": len(history) * int(reviews["train"].lengths.sum()) / clock.seconds,
        "peak_memory_mib": peak,
        "trained_bytes": best.stat().st_size,
    }
    return row, history, changes, logits


# ---------------------------------------------------------------------------- the experiment


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


def skeletons(config, settings, device):
    """Each method's model, of shapes without weights: what cannot be built is refused here."""
    with torch.device("meta"):
        models = {
            method: build(method, AutoModelForSequenceClassification.from_config(config), settings)
            for method in settings.methods
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

    A pass forward owes 2 operations a weight and token, the pass back to the added weights as
    many again, and the gradients of all weights, for full fine-tuning, once more.
    """
    train_tokens, validation_tokens, test_tokens = (int(t.lengths.sum()) for t in tokens.values())
    once = train_tokens + validation_tokens + test_tokens
    passes = 0
    for method, _ in todo:
        block_weights = sum(p.numel() for p in models[method].blocks.parameters())
        passes_back = 2 if method == "full" else 1
        epoch = (1 + passes_back) * train_tokens + validation_tokens
        passes += once + (0 if models[method].encoder_is_frozen else settings.epochs * epoch)
    usual = 0.6 * machine.matrix_rate(device)  # attention and the rest take their share
    return 2 * block_weights * passes / usual if todo else 0.0


def main(arguments=None) -> int:
    """Run the experiment; returns the exit status: 0, 1 for failed runs, 2 for bad input."""
    try:
        return experiment(parse(globals(), arguments))
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished runs are kept; start again to go on", file=sys.stderr)
        return 130


def experiment(settings):
    """Load the data, run every (method, seed), and write files, plots and a table."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    hub_logging.set_verbosity_error()  # a hub that is out of reach gets one line, ours
    device = machine.choose_device()
    if device.type == "cpu":
        machine.keep_freed_memory()
    fresh = vars(settings).pop("fresh")
    folder = Path(settings.results) / settings.experiment
    other = {"full": "quick", "quick": "full"}.get(settings.experiment)
    print(
        f"Experiment {settings.experiment}"
        f"{f' (the other one: --experiment {other})' if other else ''}: "
        f"{', '.join(settings.methods)} on {settings.model} model and {settings.dataset} data, "
        f"seeds: {', '.join(map(str, settings.seeds))}; {machine.describe(device)}"
    )
    source, config, data, tokens = prepare(settings)
    models = skeletons(config, settings, device)
    about = describe(settings, data, tokens)
    earlier = records.open_experiment(folder, about | machine.environment(device), fresh)
    counts = ", ".join(f"{len(part):,} {split}" for split, part in tokens.items())
    print(f"Reviews: {counts}; labels {', '.join(data.label_names)}")
    print(*(f"  {note}" for note in data.notes), sep="\n")
    print(f"  {tokens['train'].truncated:.0%} cut at {settings.max_tokens} tokens")
    todo = [(method, seed) for method in settings.methods for seed in settings.seeds]
    if len(earlier):
        earlier = earlier[earlier["status"] == "finished"]
        done = set(zip(earlier["method"], earlier["seed"], strict=True))
        print(f"  finished already: {len(done & set(todo))} (--fresh starts over)")
        todo = [pair for pair in todo if pair not in done]
    minutes = rough_duration(settings, todo, models, tokens, device) / 60
    print(f"Runs to do: {len(todo)}, roughly {math.ceil(minutes)} min")
    try:
        return run_all(todo, about, tokens, source, config, settings, device, folder)
    finally:
        report(folder)


def run_all(todo, about, tokens, source, config, settings, device, folder):
    """Every run of `todo`, recorded as soon as it ends; returns 1 if one has failed, else 0."""
    failed = 0
    for method, seed in todo:
        rate = settings.learning_rates[method]
        identity = {
            "experiment": settings.experiment,
            "model": about["model"],
            "data_set": about["data_set"],
            "method": method,
            "seed": seed,
            "status": "finished",
            "learning_rate": rate,
            "device": machine.describe(device),
        }
        try:
            row, history, changes, logits = run(
                method, seed, tokens, source, config, settings, device, folder
            )
        except FloatingPointError as error:
            failed = 1
            status = f"failed: {error}, learning rate {rate:g}; lower LEARNING_RATES"
            print(f"{method} seed {seed} {status}", file=sys.stderr)
            records.add_run(folder, identity | {"status": status})
            continue
        predictions = pd.DataFrame({"label": tokens["test"].labels})
        predictions[[f"logit_{label}" for label in about["label_names"]]] = logits
        records.add_run(folder, identity | row, history, changes, predictions)
        tqdm.write(
            f"{method} seed {seed}: test accuracy {row['test_accuracy']:.2%}, "
            f"{row['trainable_percentage']:.3g} % trained, "
            f"{row['training_seconds']:.0f} s of training"
        )
    return failed


def report(folder):
    """The plots and the table of all finished runs, from the files."""
    runs = records.read_csv(folder / "runs.csv")
    if not len(runs) or not (runs["status"] == "finished").any():
        return
    written = plots.make_plots(folder)
    print(records.summary(runs))
    names = ("runs.csv", "history.csv", "changes.csv", "predictions", "checkpoints")
    files = [folder / name for name in names]
    print("Written:", *files, folder / "experiment.json", *written, sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
