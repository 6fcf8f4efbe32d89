"""Compare parameter-efficient fine-tuning methods on labelled texts.

    python finetuning.py                                    the preset's comparison
    python finetuning.py --lora-rank 4 --seeds 0 1 2        any constant below, as an option
    python finetuning.py --dataset tickets.csv              your own texts, in five folds
    python finetuning.py --dataset tickets.csv --final lora+tfidf     a classifier of new texts

Edit the constants, or give them on the command line; read `results/<experiment>/` afterwards.
"""

import math
import sys
from collections.abc import Iterator
from itertools import islice, pairwise

import boundary

boundary.before_libraries()

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from data_utils import Split, training_batches
from evaluation.metrics import scores
from experiment import Presets, Run, Settings, State, run_experiment
from modeling import PeftModel
from modeling.inference import logits_of, predict

# A constant has one value, or one for each preset.
PRESET = None  # full, quick, own; None: own for your texts, else full with CUDA, else quick
EXPERIMENT = None  # the folder's name in RESULTS; None: the preset's, or your file's
MODEL = Presets(  # minilm, mpnet, a name on the Hugging Face hub, or a folder
    full="distilbert/distilbert-base-uncased", quick="minilm", own="minilm"
)
DATASET = Presets(  # a bundled task, a name on the hub, a file, or a folder: docs/your-own.md
    full="stanfordnlp/imdb", quick="imdb", own="imdb"
)
TEXT_COLUMN = None  # of the texts; None: found, where there is one candidate
LABEL_COLUMN = None  # of the labels; None: found, where there is one candidate
GROUP_COLUMN = None  # texts with the same value of this column are never in two splits
LABELS = Presets(full=None, quick=200, own=None)  # labelled texts, with validation's; None: all
VALIDATION_SHARE = 0.2  # share of LABELS that chooses epoch and learning rate
TEST_EXAMPLES = Presets(full=None, quick=1000, own=None)  # at most; None: all
FOLDS = Presets(full=None, quick=None, own=5)  # seed s tests fold s; None: one test
SPLIT_SEED = 0  # decides which texts are the test's or a fold's; each seed has its own sample
MAX_TOKENS = Presets(full=512, quick=128, own=128)  # longer texts are truncated
TRUNCATION = "left"  # which end a long text loses: "left" keeps the last tokens, "right" the first
POOLING = Presets(  # "first", "mean" or "layers"; "auto": a probe chooses
    full="first", quick="auto", own="auto"
)
BLOCKS = Presets(full=None, quick=3, own=3)  # how many of the last blocks learn, None: all
CACHE = True  # keep the output of frozen blocks on disk; False: compute it each time
METHODS = Presets(  # all: docs/methods.md; variants: "lora(rank=4)"; combinations: "lora+tfidf"
    full=("tfidf", "probe", "head", "adapter", "lora"),
    quick=("tfidf", "probe", "head", "adapter", "lora"),
    own=(
        *("tfidf", "probe", "probe(labels=0.5)", "probe+tfidf"),
        *("head", "adapter", "lora", "lora+tfidf"),
    ),
)
SEEDS = Presets(  # a run of each; with FOLDS: the folds that are tested
    full=(0, 1, 2), quick=(0,), own=(0, 1, 2, 3, 4)
)
CONTRASTS = Presets(  # the pairs that the experiment is made for
    full=("lora - probe", "adapter - lora"),
    quick=("lora - probe", "probe - tfidf", "adapter - lora"),
    own=(),
)
METRIC = "accuracy"  # of contrasts and advice; or "macro_f1", where every label counts alike
EQUIVALENCE_MARGIN = 0.01  # differences within it do not matter: one percentage point
EPOCHS = Presets(full=3, quick=8, own=8)  # the most passes over the training texts
HEAD_EPOCHS_FACTOR = 10  # times EPOCHS, where only the head is trained: its epochs cost little
EVALUATIONS_PER_EPOCH = Presets(full=3, quick=1, own=1)  # on validation; the best is kept
PATIENCE = 2  # epochs without a lower validation loss before training stops early
BATCH_SIZE = 32  # texts a step
MICRO_BATCH_TOKENS = None  # tokens at once, padding included; None: as many as suit the device
LEARNING_RATES = {  # of each method: all are tried, the lowest validation loss is kept
    "head": (2e-3, 6e-3, 2e-2, 6e-2),  # its epochs cost little
    "adapter": (5e-4, 1.6e-3, 5e-3),
    "lora": (5e-4, 1.6e-3, 5e-3),
    "dora": (5e-4, 1.6e-3, 5e-3),
    "bitfit": (1e-3, 3e-3, 1e-2),
    "ln": (1e-3, 3e-3, 1e-2),
    "ia3": (1e-3, 3e-3, 1e-2),
    "reft": (1e-3, 3e-3, 1e-2),
    "vera": (3e-3, 1e-2, 3e-2),
    "full": (2e-4, 6e-4, 2e-3),
}
WEIGHT_DECAY = 0.01  # not on vectors, such as biases
WARMUP = 0.1  # share of the steps in which the learning rate rises from 0; then it falls to 0
GRADIENT_CLIP = 1.0  # largest norm of a step's gradient
ENCODER_DROPOUT = 0.0  # in its blocks; None: the model's own
LORA_RANK = 16  # r, the rank of an update
LORA_ALPHA = 32  # the update is scaled by alpha / r
LORA_DROPOUT = 0.0  # on the input of A
LORA_RSLORA = False  # scale by alpha / sqrt(r) instead
LORA_TARGETS = ("q", "k", "v", "o")  # q, k, v, o: attention; up, down, gate: feed-forward
ADAPTER_BOTTLENECK = 64  # m, the width of an adapter
RESULTS = "results"  # the folder of all experiments


# ---------------------------------------------------------------------------- one step


def step(
    state: State, split: Split, index: np.ndarray, settings: Settings, most_tokens: int
) -> Tensor:
    """One step of the optimizer; returns the mean loss (nats) and how many texts are correct, (2,).

    Both stay on the device, so the CPU need not wait. The batch of the texts at `index` (N,) is
    computed in micro-batches of at most `most_tokens` tokens, whose gradients add up to the
    batch's.
    """
    model, device = state.model, split.labels.device
    loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    for micro_batch in split.micro_batches(index, most_tokens):
        batch = split.batch(micro_batch)
        logits = logits_of(model, batch)  # (n, C)
        part = cross_entropy(logits, batch.labels, reduction="sum") / len(index)
        state.scaler.scale(part).backward()
        loss += part.detach()
        correct += (logits.argmax(1) == batch.labels).sum()
    state.scaler.unscale_(state.optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    state.optimizer.zero_grad()
    return torch.stack([loss, correct])


def optimizer_and_schedule(model: PeftModel, steps: int, settings: Settings, rate: float):
    """AdamW on the trainable parameters, and the learning rate's warm-up and linear decay.

    The rates are those of transformers' linear schedule. A warm-up starts at 0: its first step
    moves no parameter, and only begins AdamW's running means.
    """
    parameters = model.trainable_parameters().values()
    matrices = {"params": [p for p in parameters if p.ndim >= 2]}
    vectors = {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}
    groups = [matrices, vectors]
    optimizer = torch.optim.AdamW(groups, rate, weight_decay=settings.weight_decay, fused=True)
    warmup = min(round(settings.warmup * steps), steps - 1)  # one step would have the rate 0

    def share(step):
        return step / warmup if step < warmup else (steps - step) / max(1, steps - warmup)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


# ---------------------------------------------------------------------------- training


def train(
    model: PeftModel, splits: dict[str, Split], rate: float, settings: Settings, run: Run
) -> None:
    """Train on splits["train"] at one learning rate.

    The validation loss is measured `evaluations_per_epoch` times an epoch; `run` keeps the weights
    of the lowest one, and the state from which a killed run resumes. Raises `FloatingPointError`
    where a loss is not finite.
    """
    lengths = splits["train"].lengths
    per_epoch = math.ceil(len(lengths) / settings.batch_size)
    steps = settings.epochs * per_epoch
    state = State(model, rate, *optimizer_and_schedule(model, steps, settings, rate))
    run.resume(state)
    parts_done = len(state.evaluations())
    bar = tqdm(total=steps, desc=run.folder.name, unit="step", disable=None)
    bar.update(state.steps_done())
    for batches in islice(parts_of_training(lengths, settings, run.seed), parts_done, None):
        if state.steps_since_best() >= settings.patience * per_epoch:
            break
        with run.training_clock:
            row = train_part(state, splits["train"], batches, settings, bar)
        with run.evaluation_clock:
            measured = evaluate(model, splits["validation"], settings)[0]
        row["seconds"] = run.training_clock.seconds
        state.history.append(row | {f"validation_{k}": value for k, value in measured.items()})
        run.save(state)
        bar.set_postfix(validation_loss=f"{measured['loss']:.3f}")
    bar.close()


def parts_of_training(lengths, settings: Settings, seed: int) -> Iterator[list[np.ndarray]]:
    """The batches of all epochs, split where validation is evaluated; `lengths` (n,) in tokens."""
    for epoch in range(1, settings.epochs + 1):
        batches = training_batches(lengths, settings.batch_size, seed, epoch)
        parts = min(settings.evaluations_per_epoch, len(batches))
        ends = [round(len(batches) * part / parts) for part in range(parts + 1)]
        yield from (batches[start:end] for start, end in pairwise(ends))


def train_part(state: State, split: Split, batches, settings: Settings, bar: tqdm) -> dict:
    """Step over `batches`, and return the history's next row, but for validation's columns.

    Training's loss, in nats, and accuracy are means over these texts, each computed in training
    mode just before its step; validation's are computed after all of them.
    """
    measured, before = [], state.steps_done()
    most_tokens = settings.most_tokens(split.labels.device, training=True)
    state.model.train()
    for index in batches:
        measured.append(step(state, split, index, settings, most_tokens))
        bar.update()
    losses, correct = torch.stack(measured).cpu().double().T  # read once, not at each step
    for number, loss in enumerate(losses.tolist(), before + 1):
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {number}")
    texts = torch.tensor([len(index) for index in batches], dtype=torch.float64)
    return {
        "learning_rate": state.learning_rate,
        "step": number,
        "epoch": number / math.ceil(len(split) / settings.batch_size),
        "train_loss": (losses @ texts / texts.sum()).item(),
        "train_accuracy": (correct.sum() / texts.sum()).item(),
    }


def evaluate(model: PeftModel, split: Split, settings: Settings) -> tuple[dict, Tensor]:
    """Every metric on a split, and the logits (n, C) of its texts, in their order.

    Raises `FloatingPointError` where the logits are not finite.
    """
    logits = predict(model, split, settings.most_tokens(split.labels.device, training=False))
    if not logits.isfinite().all():
        raise FloatingPointError("the logits are not finite")
    return scores(split.labels.cpu().numpy(), logits.numpy()), logits


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; returns the exit status: 0, 1 for failed runs, 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_experiment(globals(), arguments, (train, evaluate))


if __name__ == "__main__":
    sys.exit(main())
