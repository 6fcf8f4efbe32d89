"""Compare parameter-efficient fine-tuning methods on labelled reviews.

    python finetuning.py                                    the preset's comparison
    python finetuning.py --lora-rank 4 --seeds 0 1 2        any constant below, as an option

Edit the constants, or give them on the command line; read `results/<experiment>/` afterwards.
"""

import gc
import math
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice

import boundary

boundary.before_libraries()

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import hardware
from boundary import BadInput
from data_utils import Batch, Split, micro_batches, training_batches
from experiment import (
    Experiment,
    Presets,
    Run,
    Settings,
    State,
    compute_all,
    features_of,
    fit_baseline,
    parse,
    prepare,
    processes,
    resume_command,
    score,
    summarise,
    tokens_at_once,
)
from modeling import PeftModel

# A constant has one value, or one for each preset. EXPERIMENT names the folder of the results and
# chooses the preset; other names take "full" if CUDA is available, and "quick" elsewhere.
EXPERIMENT = Presets(full="full", base="base", quick="quick")
MODEL = Presets(full="distilbert/distilbert-base-uncased", base="mpnet", quick="minilm")
DATASET = Presets(full="stanfordnlp/imdb", base="imdb", quick="imdb")  # or a file or folder
TEXT_COLUMN = "text"
LABEL_COLUMN = "label"
GROUP_COLUMN = None  # texts with the same value of this column are never in two splits
LABELS = Presets(full=None, base=2000, quick=200)  # with validation's; None: all there are
VALIDATION_SHARE = 0.2  # of LABELS
TEST_EXAMPLES = Presets(full=None, base=None, quick=1000)
REDRAW_LABELS = True  # each seed draws its own labels, the same for all methods
MAX_TOKENS = Presets(full=512, base=128, quick=128)  # longer texts are truncated
TRUNCATION = "left"  # the end that a long text loses: "left" keeps its last tokens
POOLING = Presets(full="first", base="layers", quick="layers")  # the head's input; also "mean"
BLOCKS = Presets(full=None, base=3, quick=3)  # how many of the last blocks learn, None: all
STORE_STATES = True  # cache the output of the blocks before them; False: compute it each time
METHODS = Presets(  # all: docs/methods.md; variants: "lora(rank=4)"
    full=("tfidf", "probe", "head", "adapter", "lora"),
    base=("tfidf", "probe", "head", "lora", "adapter", "full"),
    quick=("tfidf", "probe", "head", "adapter", "lora"),
)
SEEDS = Presets(full=(0, 1, 2), base=(0, 1, 2), quick=(0,))  # of draws, weights, dropout, order
CONTRASTS = Presets(  # the pairs that the experiment is made for
    full=("lora - probe", "adapter - lora"),
    base=("lora - probe", "lora - full", "adapter - lora"),
    quick=("lora - probe", "probe - tfidf", "adapter - lora"),
)
EQUIVALENCE_MARGIN = 0.01  # differences within it do not matter: one percentage point
EPOCHS = Presets(full=3, base=3, quick=8)
HEAD_EPOCHS_FACTOR = 10  # times EPOCHS, for what trains the head alone: its epochs cost little
EVALUATIONS_PER_EPOCH = 3  # on validation: they choose what is kept, and make the curves' points
PATIENCE = 2  # epochs without a lower validation loss before a run stops early
BATCH_SIZE = 32
MICRO_BATCH_TOKENS = None  # computed at once, padding included; None: as many as suit the device
LEARNING_RATES = Presets(  # how each was chosen, and with which model: docs/choices.md
    full={"head": 1e-3, "adapter": 3.16e-4, "lora": 3.16e-4, "bitfit": 1e-3, "full": 1e-4},
    base={"head": 3.16e-3, "adapter": 1e-3, "lora": 1e-3, "bitfit": 1e-3, "full": 3.16e-4},
    quick={"head": 1e-2, "adapter": 1e-3, "lora": 3.16e-3, "bitfit": 1e-2, "full": 3.16e-4},
)
TUNING_RATES = 5  # learning rates that --tune tries for each method, over two decades
WEIGHT_DECAY = 0.01  # not on vectors, such as biases
WARMUP = 0.1  # share of the steps in which the learning rate rises from 0; then it falls to 0
ENCODER_DROPOUT = 0.0  # None: the model's own
LORA_RANK = 16  # r
LORA_ALPHA = 32  # the update is scaled by alpha / r
LORA_DROPOUT = 0.0  # on the input of A
LORA_RSLORA = False  # scale by alpha / sqrt(r) instead
LORA_TARGETS = ("q", "k", "v", "o")  # q, k, v, o: attention; up, down, gate: feed-forward
ADAPTER_BOTTLENECK = 64  # m
GRADIENT_CLIP = 1.0  # largest norm of a step's gradient
SPLIT_SEED = 0  # decides which texts are the test's; labels are drawn from the others
PARALLEL = "runs"  # of processes under torchrun: each takes runs; "data": all share each run
TENSORBOARD = False  # also write what TensorBoard shows: tensorboard --logdir results
RESULTS = "results"


# ---------------------------------------------------------------------------- the loop


def train(state: State, splits: dict[str, Split], run: Run, settings: Settings) -> None:
    """Train `state.model` on splits["train"], and leave its best point by validation loss in it.

    Every evaluation is recorded in the run's folder, from where a killed run resumes. Raises
    `FloatingPointError` where a loss is not finite.
    """
    validation = splits["validation"]
    run.resume(state)
    parts = parts_of_training(splits["train"].lengths, settings, run.seed)
    per_epoch = steps_per_epoch(len(splits["train"]), settings)
    bar = tqdm(
        total=settings.epochs * per_epoch,
        desc=run.name,
        unit="step",
        initial=len(state.steps),
        disable=processes.quiet(),
    )
    for batches in islice(parts, len(state.history), None):
        if state.steps_since_best() >= settings.patience * per_epoch:
            break
        row = train_part(state, splits["train"], batches, settings, bar)
        loss, accuracy = score(predict(state.model, validation, settings), validation)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the validation loss is {loss} after step {row['step']}")
        row |= {"validation_loss": loss, "validation_accuracy": accuracy}
        state.history.append(row)
        run.save(state)
        bar.set_postfix(validation_loss=f"{loss:.3f}")
    bar.close()
    run.load_best(state)


def steps_per_epoch(examples: int, settings: Settings) -> int:
    """How many batches so many training reviews make."""
    return math.ceil(examples / settings.batch_size)


def parts_of_training(lengths, settings: Settings, seed: int) -> Iterator[list[np.ndarray]]:
    """The batches of all epochs, split where validation is evaluated."""
    for epoch in range(1, settings.epochs + 1):
        batches = training_batches(lengths, settings.batch_size, seed, epoch)
        parts = min(settings.evaluations_per_epoch, len(batches))
        ends = [round(len(batches) * part / parts) for part in range(parts + 1)]
        yield from (batches[start:end] for start, end in zip(ends, ends[1:], strict=False))


def train_part(state: State, split: Split, batches, settings: Settings, bar: tqdm) -> dict:
    """Step over `batches`, record each step, and return the history's next row but validation."""
    rates, measured = [], []
    with state.clock:
        state.model.train()
        for index in batches:
            rates += state.schedule.get_last_lr()[:1]
            measured.append(step(state, split, index, settings))
            bar.update()
    measured = torch.stack(measured).cpu().double()  # (steps, 3): read once, not at each step
    for (loss, norm, _), rate in zip(measured.tolist(), rates, strict=True):
        number = len(state.steps) + 1
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {number}")
        epoch = number / steps_per_epoch(len(split), settings)
        row = {"step": number, "epoch": epoch, "loss": loss}
        state.steps.append(row | {"learning_rate": rate, "gradient_norm": norm})
    reviews = torch.tensor([len(index) for index in batches], dtype=torch.float64)
    return {
        "step": number,
        "epoch": epoch,
        "seconds": state.clock.seconds,
        "train_loss": (measured[:, 0] @ reviews / reviews.sum()).item(),
        "train_accuracy": (measured[:, 2].sum() / reviews.sum()).item(),
    }


def step(state: State, split: Split, index: np.ndarray, settings: Settings) -> Tensor:
    """One step of the optimizer; (loss, gradient norm, correct reviews) on the device, not read.

    The batch is computed in micro-batches, whose gradients add up to the batch's.
    """
    model, device = state.model, state.clock.device
    loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    mine = processes.share(index, split.lengths)
    for rows in micro_batches(split.lengths, mine, tokens_at_once(settings, device)):
        batch = split.batch(rows)
        logits = logits_of(model, batch)
        part = cross_entropy(logits, batch.labels, reduction="sum") / len(index)
        state.scaler.scale(part).backward()
        loss += part.detach()
        correct += (logits.argmax(1) == batch.labels).sum()
    processes.all_reduce(*processes.gradients(model), loss, correct)
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    state.optimizer.zero_grad()
    return torch.stack([loss, norm, correct])


def optimizer_and_schedule(model: PeftModel, examples: int, settings: Settings, rate: float):
    """AdamW on the trainable parameters, and the learning rate's warm-up and linear decay."""
    groups = {}  # by relative rate, and matrices before vectors, which have no decay
    for name, parameter in model.trainable_parameters().items():
        key = model.relative_rate(name), parameter.ndim < 2
        groups.setdefault(key, []).append(parameter)
    groups = [
        {"params": groups[key], "lr": rate * key[0]} | ({"weight_decay": 0.0} if key[1] else {})
        for key in sorted(groups, key=lambda key: (key[0] != 1, key))
    ]
    optimizer = torch.optim.AdamW(groups, rate, weight_decay=settings.weight_decay, fused=True)
    steps = settings.epochs * steps_per_epoch(examples, settings)
    warmup = round(settings.warmup * steps)

    def share(step):
        return step / warmup if step < warmup else (steps - step) / max(1, steps - warmup)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


# ---------------------------------------------------------------------------- the forward pass


def logits_of(model: PeftModel, batch: Batch) -> Tensor:
    """(N, T) -> features -> (N, C)."""
    return model.classify(features_of(model, batch))


def predict(model: PeftModel, split: Split, settings: Settings) -> Tensor:
    """The logits (n, C) of all reviews, in their order, without dropout; on the CPU."""
    logits = torch.zeros(len(split), model.pretrained.config.num_labels)
    return compute_all(logits, partial(logits_of, model.eval()), split, settings)


# ---------------------------------------------------------------------------- one run


def fine_tune(experiment: Experiment, run: Run) -> None:
    """One run of a method around the pretrained classifier, from its seed to its test."""
    gc.collect()
    state = start(experiment, run)
    settings = settings_for(state.model, experiment.settings)
    splits, seconds = experiment.states(state.model, run.seed)
    hardware.reset_peak_memory(experiment.device)  # whoever fills the cache pays no more
    train(state, splits, run, settings)
    facts = state.facts()  # before the test: the peak of memory is training's
    scores, logits = evaluate(state.model, splits, settings)
    experiment.finish(run, facts | scores | {"shared_seconds": seconds}, logits, state.model)


def start(experiment: Experiment, run: Run) -> State:
    """The model, and what will train it."""
    device, examples = experiment.device, len(experiment.splits(run.seed)["train"])
    torch.manual_seed(run.seed)
    model = experiment.build(run.method)
    settings = settings_for(model, experiment.settings)
    optimizer, schedule = optimizer_and_schedule(
        model, examples, settings, run.method.learning_rate
    )
    # float16 has few bits for small gradients: the loss is scaled up, and they are scaled down.
    scaler = torch.amp.GradScaler(
        device.type, enabled=hardware.compute_type(device) is torch.float16
    )
    scaler.scale(torch.zeros((), device=device))  # a process may have no text in a step
    return State(model, optimizer, schedule, scaler, hardware.Clock(device))


def settings_for(model: PeftModel, settings: Settings) -> Settings:
    """With more epochs for what trains the head alone, so that it converges as a probe does."""
    if not model.trains_head_alone:
        return settings
    return settings.model_copy(update={"epochs": settings.epochs * settings.head_epochs_factor})


def evaluate(model, splits: dict[str, Split], settings: Settings) -> tuple[dict, Tensor | None]:
    """Loss and accuracy on training and test reviews, and the test's logits (n, C).

    Nothing, and None, where there are no test reviews: in tuning.
    """
    scores, logits = {}, None
    for name in ("train", "test") if "test" in splits else ():
        logits = predict(model, splits[name], settings)
        scores[f"{name}_loss"], scores[f"{name}_accuracy"] = score(logits, splits[name])
        if not math.isfinite(scores[f"{name}_loss"]):
            raise FloatingPointError(f"the {name} loss is {scores[f'{name}_loss']}")
    return scores, logits


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; returns the exit status: 0, 1 for failed runs, 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        processes.join()
        with processes.together():
            experiment = prepare(parse(globals(), arguments))
        try:
            for run in experiment.runs_to_do():  # one by one: other processes may be at work
                with run.at_work():
                    (fit_baseline if run.method.is_baseline else fine_tune)(experiment, run)
        finally:
            status = summarise(experiment)
        return status
    except BadInput as error:
        return boundary.refuse(error, arguments) if processes.first_to_print("refused") else 2
    except KeyboardInterrupt:
        stop, status = "interrupted", 130
    except OSError as error:  # a disk that is full, or another process that has ended
        stop, status = f"stopped ({boundary.reason(error)})", 1
    if processes.first_to_print("resume"):
        resume = resume_command(arguments)
        print(f"{stop}: what is finished is kept; resume with: {resume}", file=sys.stderr)
    return status


if __name__ == "__main__":
    boundary.interrupt_once()
    boundary.steady_output()
    sys.exit(main())
