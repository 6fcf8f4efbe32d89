"""Compare parameter-efficient fine-tuning methods on labelled reviews.

    python finetuning.py                                    the whole comparison
    python finetuning.py --methods lora --seeds 0 1 2       any constant below, in lower case

Edit the constants, or give them on the command line; read `results/<experiment>/` afterwards.
"""

import contextlib
import gc
import math
import shlex
import shutil
import signal
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from huggingface_hub.utils import logging as hub_logging
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import data_utils
import modeling
import resume
from evaluation import curves, machine, plots, records, report
from modeling import checkpoint
from preparation import build, check_disk, describe, prepare, rough_duration, skeletons
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
METHODS = ("tfidf", "head", "adapter", "lora")  # also: "bitfit"; "full" fine-tuning, for reference
SEEDS = Columns((0, 1, 2), (0,))  # move the head, the added weights, dropout and the order
EPOCHS = 3
PATIENCE = 2  # epochs without a lower validation loss before a run stops early
BATCH_SIZE = 32
ACCUMULATE = None  # pieces a batch is worked off in; None: whole on a GPU, to fit a CPU's caches
LEARNING_RATES = {"head": 1e-3, "adapter": 3.16e-4, "lora": 3.16e-4, "bitfit": 1e-3, "full": 1e-4}
TUNING_RATES = 5  # learning rates that --tune tries for each method, over two decades
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
    file `best`, and the state after the last one beside it, where a killed run goes on from.
    Raises `FloatingPointError` where a loss is not finite.
    """
    lengths, labels = reviews["train"].lengths, reviews["validation"].labels
    optimizer, schedule = optimisation(model, len(lengths), settings, rate)
    under_way = best.with_name(resume.UNDER_WAY)
    history, seconds = resume.load(under_way, model, optimizer, schedule)
    clock.seconds = seconds or clock.seconds
    if history and best_of(history) is history[-1]:  # it may have been killed in between
        checkpoint.save_trained(model, best)
    epochs = range(1, settings.epochs + 1)
    bar = tqdm(epochs, desc=best.parent.name, unit="epoch", initial=len(history), disable=None)
    for epoch in epochs[len(history) :]:
        if history and len(history) - best_of(history)["epoch"] >= settings.patience:
            break
        batches = data_utils.training_batches(lengths, settings.batch_size, seed, epoch)
        row = {"epoch": epoch}
        with clock:
            loss, accuracy = train_epoch(
                model, reviews["train"], states["train"], batches, optimizer, schedule, settings
            )
        row |= {"steps": schedule.last_epoch, "train_loss": loss, "train_accuracy": accuracy}
        logits = predict(model, reviews["validation"], states["validation"], settings, clock.device)
        loss, accuracy = score(logits, labels)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the validation loss is {loss} after epoch {epoch}")
        row |= {"validation_loss": loss, "validation_accuracy": accuracy}
        row |= {"learning_rate": schedule.get_last_lr()[0], "seconds": clock.seconds}
        history.append(row)
        resume.save(under_way, model, optimizer, schedule, history, clock.seconds)
        if best_of(history) is row:
            checkpoint.save_trained(model, best)
        bar.update()
        bar.set_postfix(validation_loss=f"{loss:.3f}")
    bar.close()
    checkpoint.load_trained(model, best)
    return history


def best_of(history):
    """The epoch with the lowest validation loss, the first one of equals."""
    return min(history, key=lambda row: row["validation_loss"])


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
    warmup = round(settings.warmup * steps)

    def share(step):
        return step / warmup if step < warmup else (steps - step) / max(1, steps - warmup)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def encode_batch(model, reviews, index, device):
    """The states (N, d) of the reviews at `index`; the encoder in bf16 where that is faster."""
    inputs = (tensor.to(device, non_blocking=True) for tensor in reviews.batch(index))
    bf16 = machine.compute_type(device) is torch.bfloat16
    with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
        return model.encode(*inputs).float()  # (N, T) -> (N, d); the head computes in float32


def tokens_at_once(settings, device):
    """How many tokens, pads included, are worked on together.

    A CPU does best where a block's attention scores, tokens x heads x T, stay in its caches;
    without gradients less else is held.
    """
    if settings.accumulate is None and device.type == "cpu":
        most = 2**20 // settings.max_tokens
        return most if torch.is_grad_enabled() else max(most, 4096)
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


def place(method, pretrained, settings, device):
    """Put a method around a pretrained classifier, and the model on its device."""
    if device.type == "cpu":
        modeling.use_plain_attention(pretrained)
    return build(method, pretrained, settings).to(device)


def fit(method, seed, rate, reviews, source, config, settings, device, kept):
    """Build and train one model, its files in the folder `kept`: (model, states, history, clock).

    `states` are the encoder's of the splits that training needs, None where it is not frozen.
    """
    gc.collect()
    machine.reset_peak_memory(device)
    torch.manual_seed(seed)
    model = place(method, modeling.load_pretrained(source, config), settings, device)
    clock, states = machine.Clock(device), dict.fromkeys(reviews)
    if model.encoder_is_frozen:
        with clock:  # it says the same in every epoch, so it runs once
            states["train"] = encode(model, reviews["train"], settings, device)
        states["validation"] = encode(model, reviews["validation"], settings, device)
    best = kept / checkpoint.TENSORS
    history = train(model, reviews, states, settings, rate, seed, clock, best)
    return model, states, history, clock


def run(method, seed, reviews, source, config, settings, device, folder):
    """One run, from the seed to the test: (row, history, changes of the model, test logits)."""
    kept = folder / "checkpoints" / f"{method}-seed{seed}"
    rate = settings.learning_rates[method]
    model, states, history, clock = fit(
        method, seed, rate, reviews, source, config, settings, device, kept
    )
    peak = machine.peak_memory(device)
    best_epoch = best_of(history)
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
        "trained_bytes": (kept / checkpoint.TENSORS).stat().st_size,
    }
    return row, history, changes, logits


def run_tfidf(data, tokens):
    """The run without a transformer, on the same reviews; it returns what `run` does."""
    cpu = torch.device("cpu")
    machine.reset_peak_memory(cpu)
    parts = {split: (getattr(data, split)["text"][:], t.labels) for split, t in tokens.items()}
    clock, row = machine.Clock(cpu), {}
    with clock:
        model = modeling.fit_bag_of_words(*parts["train"], *parts["validation"])
    for split in ("validation", "train", "test"):
        logits = model.logits(parts[split][0])
        row[f"{split}_loss"], row[f"{split}_accuracy"] = score(logits, parts[split][1])
    row |= dict.fromkeys(("trainable_parameters", "total_parameters"), model.count_parameters())
    row |= {"trainable_percentage": 100.0, "training_seconds": clock.seconds}
    row |= {"examples_per_second": len(tokens["train"]) / clock.seconds}
    row |= {"peak_memory_mib": machine.peak_memory(cpu), "best_epoch": None}
    return row, (), (), logits


# ---------------------------------------------------------------------------- the experiment


def main(arguments=None) -> int:
    """Run the experiment; returns the exit status: 0, 1 for failed runs, 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    kept = [argument for argument in arguments if argument != "--fresh"]  # to go on, not to redo
    command = shlex.join(["python", "finetuning.py", *kept])
    try:
        return experiment(parse(globals(), arguments), command)
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"interrupted: finished runs and epochs are kept; go on with: {command}",
            file=sys.stderr,
        )
        return 130


def experiment(settings, command):
    """Load the data, do all that is not done, and write files, plots and a table."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    hub_logging.set_verbosity_error()  # a hub that is out of reach gets one line, ours
    device = machine.choose_device()
    if device.type == "cpu":
        machine.keep_freed_memory()
    fresh, tuning = vars(settings).pop("fresh"), vars(settings).pop("tune")
    folder = Path(settings.results) / (settings.experiment + ("-tuning" if tuning else ""))
    methods = [*dict.fromkeys((*settings.methods, *(["full"] if tuning else [])))]
    other = {"full": "quick", "quick": "full"}.get(settings.experiment)
    print(
        f"{'Tuning for experiment' if tuning else 'Experiment'} {settings.experiment}"
        f"{f' (the other one: --experiment {other})' if other else ''}: "
        f"{', '.join(methods)} on {settings.model} model and {settings.dataset} data, "
        f"seeds: {', '.join(map(str, settings.seeds))}; {machine.describe(device)}"
    )
    source, config, data, tokens = prepare(settings)
    models = skeletons(methods, config, settings, device)
    with locked(folder):
        about = describe(settings, data, tokens) | {"command": command}
        records.open_experiment(folder, about | machine.environment(device), fresh)
        counts = ", ".join(f"{len(part):,} {split}" for split, part in tokens.items())
        print(f"Reviews: {counts}; labels {', '.join(data.label_names)}")
        print(*(f"  {note}" for note in data.notes), sep="\n")
        print(f"  {tokens['train'].truncated:.0%} cut at {settings.max_tokens} tokens")
        todo = to_do(methods, models, settings, folder, tuning)
        todo_methods = [method for method, _ in todo]
        check_disk(folder, todo_methods, models)
        minutes = rough_duration(settings, todo_methods, models, tokens, device) / 60
        what = "Learning rates to try" if tuning else "Runs to do"
        print(f"{what}: {len(todo)}, roughly {max(1, round(minutes))} min")
        try:
            if tuning:
                return tune(todo, tokens, source, config, settings, device, folder)
            return run_all(todo, about, data, tokens, source, config, settings, device, folder)
        finally:
            summarise_tuning(folder) if tuning else summarise(folder, data)


def locked(folder):
    """A lock on the folder; the system gives it back when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise ValueError(
            f"another process works on {folder}; wait for it, or choose another EXPERIMENT name"
        ) from None
    except OSError as error:
        why = f"{folder} cannot be written ({error.strerror})"
        raise OSError(f"{why}; set RESULTS to a folder that can") from None


def to_do(methods, models, settings, folder, tuning):
    """What is not done yet: (method, seed), or (method, learning rate) in tuning."""
    if tuning:
        every = tuning_grid([method for method in methods if method in models], settings)
    else:  # what has no randomness runs once
        every = [
            (m, s) for m in methods for s in settings.seeds if m in models or s == settings.seeds[0]
        ]
    done = records.finished(folder, "tuning.csv" if tuning else "runs.csv")
    todo = [pair for pair in every if pair not in done]
    if len(todo) < len(every):
        print(f"  finished already: {len(every) - len(todo)} (--fresh starts over)")
    return todo


def run_all(todo, about, data, tokens, source, config, settings, device, folder):
    """Every run of `todo`, recorded as soon as it ends; returns 1 if one has failed, else 0."""
    failed = 0
    for method, seed in todo:
        identity = {
            "experiment": settings.experiment,
            "model": about["model"],
            "data_set": about["data_set"],
            "method": method,
            "seed": seed,
            "status": "finished",
            "learning_rate": settings.learning_rates.get(method),
            "device": machine.describe(device),
        }
        under_way = folder / "checkpoints" / f"{method}-seed{seed}" / resume.UNDER_WAY
        try:
            if method == modeling.TFIDF:
                row, history, changes, logits = run_tfidf(data, tokens)
            else:
                row, history, changes, logits = run(
                    method, seed, tokens, source, config, settings, device, folder
                )
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            failed = 1
            status = f"failed: {reason(error, method, settings)}"
            print(f"{method} seed {seed} {status}", file=sys.stderr)
            records.add_run(folder, identity | {"status": status})
            under_way.unlink(missing_ok=True)
            continue
        predictions = pd.DataFrame({"label": tokens["test"].labels})
        predictions[[f"logit_{label}" for label in about["label_names"]]] = logits
        records.add_run(folder, identity | row, history, changes, predictions)
        under_way.unlink(missing_ok=True)
        tqdm.write(
            f"{method} seed {seed}: test accuracy {row['test_accuracy']:.2%}, "
            f"{row['trainable_percentage']:.3g} % trained, "
            f"{row['training_seconds']:.3g} s of training"
        )
    return failed


def reason(error, method, settings):
    """Why a run has failed and what to change, in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"out of memory with BATCH_SIZE {settings.batch_size}, ACCUMULATE "
            f"{settings.accumulate or 1}, MAX_TOKENS {settings.max_tokens}; raise ACCUMULATE, or "
            "lower BATCH_SIZE or MAX_TOKENS"
        )
    return f"{error}, learning rate {settings.learning_rates[method]:g}; lower LEARNING_RATES"


def summarise(folder, data):
    """Plots, report and table of all finished runs, from the files."""
    runs = records.read_csv(folder / "runs.csv")
    if not len(runs) or not (runs["status"] == "finished").any():
        return
    report.misjudged(folder, data.test["text"][:], data.label_names)
    written = [*plots.make_plots(folder), report.write_report(folder)]
    print(records.summary(runs))
    names = ("runs.csv", "history.csv", "changes.csv", "misjudged.csv", "experiment.json")
    files = [folder / name for name in (*names, "predictions", "checkpoints")]
    print("Written:", *files, *written, sep="\n  ")


# ---------------------------------------------------------------------------- tuning


def tuning_grid(methods, settings):
    """The same number of learning rates for every method, log-spaced over two decades."""
    steps = np.linspace(-1, 1, settings.tuning_rates) if settings.tuning_rates > 1 else [0.0]
    centres = settings.learning_rates
    return [(m, float(f"{centres[m] * 10**step:.3g}")) for m in methods for step in steps]


def tune(todo, tokens, source, config, settings, device, folder):
    """Train at every (method, learning rate) of `todo` with the first seed; the test stays unread.

    Each row is recorded in tuning.csv as soon as it is there. Returns 1 if all rates of a method
    have failed, else 0.
    """
    seen = {split: tokens[split] for split in ("train", "validation")}
    seed = settings.seeds[0]
    for method, rate in todo:
        kept = folder / "checkpoints" / f"{method}-{rate:g}"
        row = {"method": method, "learning_rate": rate, "seed": seed, "status": "finished"}
        try:
            _, _, history, clock = fit(
                method, seed, rate, seen, source, config, settings, device, kept
            )
            best = best_of(history)
            row |= {name: best[name] for name in ("validation_loss", "validation_accuracy")}
            row |= {"best_epoch": best["epoch"], "seconds": clock.seconds}
            tqdm.write(f"{method} at {rate:g}: validation loss {best['validation_loss']:.4f}")
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            row["status"] = f"failed: {error}"
            tqdm.write(f"{method} at {rate:g} {row['status']}")
        records.add_tuning(folder, row)
        shutil.rmtree(kept, ignore_errors=True)
    tuned = records.read_csv(folder / "tuning.csv")
    return int(not tuned.groupby("method")["chosen"].any().all())


def summarise_tuning(folder):
    """The chosen learning rates, from the file, as constants to copy."""
    tuning = records.read_csv(folder / "tuning.csv")
    if not len(tuning):
        return
    print(tuning.drop(columns=["seed", "status"]).to_string(index=False))
    chosen = tuning[tuning["chosen"]]
    for row in chosen[chosen["at_edge"]].itertuples():
        print(
            f"warning: {row.method} is best at the edge of what was tried, {row.learning_rate:g}: "
            "move its LEARNING_RATES there and tune again"
        )
    rates = ", ".join(f'"{row.method}": {row.learning_rate:g}' for row in chosen.itertuples())
    print(f"LEARNING_RATES = {{{rates}}}")
    print("Written:", folder / "tuning.csv", curves.tuning_figure(folder), sep="\n  ")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: finished runs are kept
    sys.exit(main())
