"""Where does the time of a LoRA step go, before and after what docs/performance.md lists?

    python -m benchmarks.training_profile       docs/results/training_profile.csv, 4 min

Both are `finetuning.py`'s epoch on the same batches of 32 real reviews of similar length, in bf16
where that is faster. "before" computes whole batches with PyTorch's fused attention, LoRA as the
paper writes it and the last block for every token; a CPU gives freed memory back. PyTorch's
profiler says what each operation took by itself. Processes of their own, in turn; medians.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

import data_utils
import finetuning
import hardware
from benchmarks.work import Work, as_run

ROUNDS = 3
KINDS = {  # an operation is of the first kind of which it has a word
    "attention, fused": ("attention",),
    "attention's products": ("bmm",),
    "softmax": ("softmax",),
    "products with weights": ("mm", "linear"),
    "GELU": ("gelu",),
    "norms": ("norm",),
    "casts and copies": ("copy",),
    "sums": ("add", "sum"),
}


def lora_epoch(form: str, reviews: int):
    """The model in its form, "before" or "after"; returns (a pass over the reviews, tokens)."""
    device = hardware.choose_device()
    shape = "distilbert" if device.type == "cuda" else data_utils.BUNDLED
    work = Work(reviews=reviews, shape=shape)
    if form == "before":
        run = as_run(work, device, "--micro-batch-tokens", str(work.batch_size * work.max_tokens))
    else:
        hardware.prepare_device(device)
        run = as_run(work, device)
    state, settings = finetuning.start(run), run.experiment.settings
    if form == "before":
        make_plain(state.model)
    split = run.experiment.splits["train"]
    batches = data_utils.training_batches(split.lengths, work.batch_size, seed=0, epoch=1)

    def epoch():
        finetuning.train_part(state, split, batches, settings, tqdm(disable=True))

    return epoch, int(split.lengths.sum())


def make_plain(model) -> None:
    """Take back what modeling/fast.py changes in a LoRA model."""
    model.pretrained.set_attn_implementation("sdpa")
    model.architecture = replace(model.architecture, encode=every_token)
    for layer in model.lora_layers().values():
        layer.folded = False


def every_token(pretrained, input_ids, attention_mask):
    """The encoder as transformers runs it: (N, T) -> (N, d)."""
    return pretrained.base_model(input_ids, attention_mask).last_hidden_state[:, 0]


def kind_of(operation: str) -> str:
    """The kind of an operation by its name in the profile."""
    return next(
        (kind for kind, words in KINDS.items() if any(word in operation for word in words)), "rest"
    )


def microseconds_a_token(form: str, reviews: int) -> dict[str, float]:
    """Microseconds a token of each kind, and "all, not profiled" of a pass without the profiler."""
    epoch, tokens = lora_epoch(form, reviews)
    epoch()  # warms up
    start = perf_counter()
    epoch()
    spent = {"all, not profiled": perf_counter() - start}
    spent |= seconds_by_kind(epoch)
    return {kind: 1e6 * seconds / tokens for kind, seconds in spent.items()}


def seconds_by_kind(work) -> dict[str, float]:
    """What the operations of a call took by themselves, on the GPU where there is one."""
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with profile(activities=activities) as profiled:
        work()
    spent = dict.fromkeys([*KINDS, "rest"], 0.0)
    for event in profiled.key_averages():
        if event.device_type == DeviceType.CPU:  # a kernel's time stands with its operation
            own = event.self_device_time_total if cuda else event.self_cpu_time_total
            spent[kind_of(event.key)] += own / 1e6
    return spent


def main():
    """Profile both forms, print the table, and write it."""
    device = hardware.choose_device()
    reviews = 2048 if device.type == "cuda" else 128
    print(f"{hardware.describe(device)}, torch {torch.__version__}; {reviews} reviews", flush=True)
    rows = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        for number in range(ROUNDS):
            for form in ("before", "after"):
                spent = alone.submit(microseconds_a_token, form, reviews).result()
                rows += [{"form": form, "kind": k, "us": us} for k, us in spent.items()]
                whole = spent["all, not profiled"]
                print(f"  round {number + 1}: {form}: {whole:.0f} us a token", flush=True)
    table = pd.DataFrame(rows).pivot_table("us", "kind", "form", aggfunc="median")
    table = table.loc[[*KINDS, "rest", "all, not profiled"], ["before", "after"]]
    table.columns = [f"{form}_us_per_token" for form in table]
    path = Path("docs/results/training_profile.csv")
    table.to_csv(path, float_format="%.4g")
    print(table.to_string(float_format="{:.1f}".format), f"Written: {path}", sep="\n")


if __name__ == "__main__":
    main()
