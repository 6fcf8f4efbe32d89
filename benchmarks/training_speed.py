"""How fast is training, and how near to what the machine can do?

    python -m benchmarks.training_speed             docs/results/training_*.csv and .png, 20 min
    python -m benchmarks.training_speed --quick     a glance, into results/benchmarks, 3 min

Every system takes its turn in every round, so that a machine that slows down slows all of them.
Each number is the median over the rounds, a ratio that of the ratios within rounds. Rates count
real tokens; padding counts for nothing. Model FLOPs utilisation (MFU) is the FLOPs that a pass
requires over those that plain matrix products reach in its time, measured in the same round
(benchmarks/flops.py).
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path
from statistics import median

import datasets
import matplotlib
import numpy as np
import pandas as pd
import torch

import data_utils
import finetuning
import hardware
from benchmarks import flops, memory
from benchmarks.systems import Worker
from benchmarks.work import Work, as_run, new_states
from experiment import cached_states

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLUMNS = ("device", "system", "method", "reviews_per_second", "tokens_per_second")
COLUMNS += ("ratio_to_reference", "model_flops_utilisation", "peak_memory_mib", "repeats")
LONGER = ("reference", "peft defaults")  # they see fewer reviews: they do not group by length
ROWS = (
    ("reference", "lora"),
    ("reference", "adapter"),
    ("peft defaults", "lora"),
    ("peft tuned", "lora"),
    ("ours", "full"),
    ("ours", "lora"),
    ("ours", "adapter"),
    ("ours, evaluation", "head"),
)
SIZES = {"lora": 16, "adapter": 64}


def time_systems(device, works: dict[tuple[str, str], tuple[str, Work]], rounds: range) -> list:
    """A dict for each name and round: seconds, reviews, tokens, FLOPs and rate, memory.

    A name is what tables call a system, and a method. The second of two passes is timed.
    """
    workers = {name: Worker(system, work) for name, (system, work) in works.items()}
    rows = []
    for number in rounds:
        rate = median(flops.matrix_rate(device) for _ in range(5))
        for (system, method), worker in workers.items():
            worker()  # a process that has waited for minutes is slow at first
            work, lengths, seconds = worker.work, worker.lengths, worker()
            evaluation = worker.system == "ours, evaluation"
            rows.append(
                {
                    "round": number,
                    "system": system,
                    "method": method,
                    "seconds": seconds,
                    "reviews": len(lengths),
                    "tokens": int(lengths.sum()),
                    "flops": flops.required(work.sizes, lengths, method, work.size, evaluation),
                    "matrix_rate": rate,
                    "waited": worker.waited(),
                    "memory": worker.peak_memory(),
                }
            )
            print(f"  round {number + 1}: {system}, {method}: {seconds:.1f} s", flush=True)
    for worker in workers.values():
        worker.close()
    return rows


def table(timings: pd.DataFrame, device: str) -> pd.DataFrame:
    """`COLUMNS`: medians over the rounds."""
    reached = timings["flops"] / timings["seconds"]
    timings = timings.assign(
        rate=timings["reviews"] / timings["seconds"], utilisation=reached / timings["matrix_rate"]
    )
    references = timings[timings["system"] == "reference"].pivot(
        index="round", columns="method", values="rate"
    )
    rows = []
    for (system, method), group in timings.groupby(["system", "method"], sort=False):
        same = method if method in references else "lora"  # it has no other methods
        slow = references[same] if len(references) else pd.Series(np.nan, group["round"])
        ratio = group.set_index("round")["rate"] / slow.reindex(group["round"])
        rows.append(
            {
                "device": device,
                "system": system,
                "method": method,
                "reviews_per_second": group["rate"].median(),
                "tokens_per_second": (group["tokens"] / group["seconds"]).median(),
                "ratio_to_reference": np.nan if "evaluation" in system else ratio.median(),
                "model_flops_utilisation": group["utilisation"].median(),
                "peak_memory_mib": group["memory"].max(),
                "repeats": len(group),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def ratio(timings, one, other):
    """Median over the rounds of one system's seconds a review over another's."""
    each = timings.assign(each=timings["seconds"] / timings["reviews"])
    each = each.pivot(index="round", columns=["system", "method"], values="each")
    return (each[one] / each[other]).median()


def head_against_encoding(device, reviews: int, rounds: int) -> float:
    """Seconds of 25 epochs of head-only with their validation, over one encoding's."""
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, new_states():
            arguments = ("--epochs", "25", "--patience", "25", "--results", folder)
            run = as_run(Work(method="head", reviews=reviews), device, *arguments)
            run.folder.mkdir(parents=True)
            validation = Work(reviews=reviews // 8, skip=reviews).split()
            run.experiment.splits["validation"] = validation.to(device)
            state, clock = finetuning.start(run), hardware.Clock(device)
            experiment = run.experiment
            splits, encoding = cached_states(state.model, experiment.splits, experiment.settings)
            with clock:
                finetuning.train(state, splits, run)
            ratios.append(clock.seconds / encoding)
    return median(ratios)


def share_of_batching(timings, device, reviews: int) -> float:
    """Seconds that dividing and padding an epoch's batches takes, over those of a LoRA epoch."""
    run, clock = as_run(Work(reviews=reviews), device), hardware.Clock(device)
    split, settings = run.experiment.splits["train"], run.experiment.settings
    at_once = finetuning.tokens_at_once(settings, device)
    with clock:
        for index in data_utils.training_batches(split.lengths, settings.batch_size, 0, 1):
            for rows in data_utils.micro_batches(split.lengths, index, at_once):
                split.batch(rows)
    ours = timings[(timings["system"] == "ours") & (timings["method"] == "lora")]
    return clock.seconds / ours["seconds"].median()


def tokenising() -> tuple[float, float, int]:
    """Seconds to tokenise the bundled reviews at 512 tokens, and again from the cache."""
    data = data_utils.load_reviews(data_utils.BUNDLED)
    splits, tokenizer = (data.train, data.validation, data.test), Work().tokenizer
    cache, seconds = datasets.config.HF_DATASETS_CACHE, []
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        for _ in range(2):
            start = time.perf_counter()
            for split in splits:
                data_utils.tokenise(split, tokenizer)
            seconds.append(time.perf_counter() - start)
    datasets.config.HF_DATASETS_CACHE = cache
    return *seconds, sum(map(len, splits))


def memory_table(device) -> pd.DataFrame:
    """A row for each method and component, and what one process's peak says of all of them."""
    rows = []
    for method in ("lora", "full"):
        held, computed = memory.measured(Work(method=method, size=SIZES.get(method, 0)), device)
        rows += [
            {
                "method": method,
                "component": component,
                "computed_mib": computed[component] / 2**20,
                "measured_mib": held[component] / 2**20,
            }
            for component in held
        ]
    return pd.DataFrame(rows)


def figure(speeds: pd.DataFrame, question: str, path: Path) -> None:
    """Reviews per second of each system, and ours at an MFU of 100 % as a line."""
    training = speeds.iloc[::-1]
    names = {"lora": "LoRA", "adapter": "adapters", "full": "full fine-tuning"}
    labels = [f"{r.system}: {names[r.method]}" for r in training.itertuples()]
    ours = training["system"].str.startswith("ours")
    drawn, axes = plt.subplots(figsize=(7.2, 1.6 + 0.36 * len(training)))
    axes.barh(labels, training["reviews_per_second"], color=np.where(ours, "#009E73", "#999999"))
    for y, row in enumerate(training.itertuples()):
        end = row.reviews_per_second
        if row.system.startswith("ours"):
            end /= row.model_flops_utilisation
            axes.plot([end, end], [y - 0.4, y + 0.4], color="black", linewidth=1.5)
        text = f"  {row.reviews_per_second:.3g}/s, {row.peak_memory_mib / 1024:.1f} GiB"
        axes.text(end, y, text, va="center", fontsize=9)
    axes.set_xlabel(
        "real reviews per second of training\nbeside it, peak memory above the loaded model\n"
        "black line: a model FLOPs utilisation (MFU) of 100 %",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{question}\n{speeds['device'].iloc[0]}\nup to 512 tokens, batches of 32",
        loc="left",
        fontsize=10,
    )
    axes.margins(x=0.2)
    drawn.tight_layout()
    drawn.savefig(path, dpi=150)
    plt.close(drawn)


def place(quick: bool) -> Path:
    """The folder of the results."""
    folder = Path("results/benchmarks" if quick else "docs/results")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def machine(device) -> str:
    """What the times were taken on, in words."""
    return f"{hardware.describe(device)}, {platform.system()}, torch {torch.__version__}"


def main():
    """Time everything, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less, into results/benchmarks")
    quick = parser.parse_args().quick
    folder, device = place(quick), hardware.choose_device()
    cuda, where = device.type == "cuda", machine(device)
    shape = "distilbert" if cuda else data_utils.BUNDLED
    reviews, few, rounds = (64, 32, 1) if quick else (512, 32, 3)
    if cuda:
        reviews, few = 16 * reviews, 8 * few
    print(f"{where}; encoder: {shape}, {reviews} reviews ({few} for {' and '.join(LONGER)})")

    works = {}
    for system, method in ROWS:
        count, size = few if system in LONGER else reviews, SIZES.get(method, 0)
        work = Work(method=method, size=size, reviews=count, shape=shape)
        works[system, method] = system, work
    timings = pd.DataFrame(time_systems(device, works, range(rounds)))
    speeds = table(timings, where)
    speeds.to_csv(folder / "training_speed.csv", index=False, float_format="%.4g")
    training = speeds[speeds["system"] != "ours, evaluation"]
    figure(training, "How fast is training?", folder / "training_speed.png")
    print(speeds.drop(columns="device").to_string(index=False, float_format="{:.3g}".format))

    first, second, count = tokenising()
    lora, full = ("ours", "lora"), ("ours", "full")
    checks = {
        "LoRA against peft defaults, times as fast": ratio(
            timings, ("peft defaults", "lora"), lora
        ),
        "LoRA against peft tuned, times as fast": ratio(timings, ("peft tuned", "lora"), lora),
        "LoRA step over full fine-tuning's, time": ratio(timings, lora, full),
        "adapter step over full fine-tuning's, time": ratio(timings, ("ours", "adapter"), full),
        "head-only, 25 epochs over one encoding, time": head_against_encoding(
            device, reviews, rounds
        ),
        "preparing batches, share of a LoRA epoch": share_of_batching(timings, device, reviews),
        f"tokenising {count:,} reviews, s": first,
        f"tokenising {count:,} reviews from the cache, s": second,
    }
    facts = pd.DataFrame(checks.items(), columns=["what", "measured"])
    facts.to_csv(folder / "training_checks.csv", index=False, float_format="%.4g")
    print(facts.to_string(index=False, float_format="{:.3g}".format))

    if not cuda:
        components = memory_table(device)
        components.to_csv(folder / "training_memory.csv", index=False, float_format="%.4g")
        print(components.to_string(index=False, float_format="{:.4g}".format))
    print("Written:", *sorted(folder.glob("training_*")), sep="\n  ")


if __name__ == "__main__":
    main()
