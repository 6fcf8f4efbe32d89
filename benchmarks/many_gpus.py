"""How far would both modes of PARALLEL go? Arithmetic from stated speeds; nothing is measured.

    python -m benchmarks.many_gpus      docs/results/many_gpus.csv and .png, seconds

DistilBERT-base on reviews of 256 tokens. A step on n GPUs takes

    t(n) = compute / n  +  2 (n - 1) / n  x  bytes / bandwidth  +  2 (n - 1)  x  latency

a ring that adds up the gradients in float32, as slow as its slowest link. The efficiency is
t(1) / (n t(n)). Of R runs that n GPUs take in turn the last round may leave some without work:
R / (n ceil(R / n)).
"""

import math
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd

from benchmarks.flops import Shape, required

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RATE = 0.4 * 989e12  # FLOPs a second: an H100's in bf16, 40 % of them used
TOKENS = 256
ENCODER = Shape(width=768, feed_forward=3072, blocks=6)
TRAINED = {"lora": 1_181_954, "full": 66_955_010}  # parameters, as README.md has them
BATCHES = (32, 1024)
RUNS = (60, 960)  # four methods, three seeds, five learning rates; sixteen such experiments
GPUS = 2 ** np.arange(1, 11)


class Link(NamedTuple):
    """What joins two GPUs."""

    name: str
    bandwidth: float  # bytes a second, in each direction
    latency: float  # seconds


IN_ONE_MACHINE = Link("NVLink, 450 GB/s, up to 8 GPUs", 450e9, 3e-6)
BETWEEN = (
    Link("InfiniBand, 50 GB/s a GPU", 50e9, 5e-6),
    Link("Ethernet, 3 GB/s a GPU", 3e9, 30e-6),
)


def compute_seconds(method: str, batch: int) -> float:
    """Of one step on one GPU."""
    size = 16 if method == "lora" else 0
    return float(required(ENCODER, np.full(batch, TOKENS), method, size)) / RATE


def data_efficiency(method: str, batch: int, gpus: int, between: Link) -> float:
    """Of a step that `gpus` GPUs share; no more of them than reviews have any work."""
    link = IN_ONE_MACHINE if gpus <= 8 else between
    alone, bytes_ = compute_seconds(method, batch), 4 * TRAINED[method]
    exchange = 2 * (gpus - 1) * (bytes_ / gpus / link.bandwidth + link.latency)
    largest_share = math.ceil(batch / gpus) / batch
    return alone / (gpus * (alone * largest_share + exchange))


def runs_efficiency(runs: int, gpus: int) -> float:
    """Of GPUs that take equal runs in turn."""
    return runs / (gpus * math.ceil(runs / gpus))


def table() -> pd.DataFrame:
    """A row for each mode, kind of work and number of GPUs."""
    rows = [
        ("data", method, batch, between.name, 4 * TRAINED[method], n, efficiency)
        for method in TRAINED
        for batch in BATCHES
        for between in BETWEEN
        for n in GPUS.tolist()
        for efficiency in [data_efficiency(method, batch, n, between)]
    ]
    rows += [
        ("runs", f"{runs} runs", None, None, 0, n, runs_efficiency(runs, n))
        for runs in RUNS
        for n in GPUS.tolist()
    ]
    columns = ["mode", "work", "batch", "between", "bytes_a_step", "gpus", "efficiency"]
    return pd.DataFrame(rows, columns=columns)


def figure(frame: pd.DataFrame, path: Path) -> None:
    """A panel for each batch of `data`, and one for `runs`."""
    drawn, panels = plt.subplots(1, 1 + len(BATCHES), figsize=(12, 4.4), sharey=True)
    looks = {"lora": ("LoRA", "#009E73"), "full": ("full fine-tuning", "#666666")}
    for axes, batch in zip(panels, BATCHES, strict=False):
        rows = frame[frame["batch"] == batch]
        for (method, between), group in rows.groupby(["work", "between"], sort=False):
            label, colour = looks[method]
            line = "-" if between == BETWEEN[0].name else ":"
            name = f"{label}; {between}"
            axes.plot(group["gpus"], 100 * group["efficiency"], line, color=colour, label=name)
        axes.set_title(f'PARALLEL = "data", batch of {batch:,}', loc="left", fontsize=10)
    for runs, colour in zip(RUNS, ("#D55E00", "#0072B2"), strict=True):
        group = frame[frame["work"] == f"{runs} runs"]
        panels[-1].plot(
            group["gpus"], 100 * group["efficiency"], color=colour, label=f"{runs} runs"
        )
    panels[-1].legend(fontsize=8)
    panels[-1].set_title('PARALLEL = "runs"', loc="left", fontsize=10)
    for axes in panels:
        axes.set_xscale("log", base=2)
        axes.set_xticks(GPUS, [str(n) for n in GPUS], fontsize=8, rotation=60)
        axes.set_xlabel("GPUs")
        axes.set_ylim(0, 105)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("predicted efficiency, %")
    drawn.suptitle(
        "How far would both modes go? Arithmetic for DistilBERT-base, 256 tokens, H100 at 40 %; "
        "not measured",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    drawn.tight_layout(rect=(0, 0.07, 1, 1))
    lines = panels[0].get_lines()
    drawn.legend(handles=lines, loc="lower left", ncols=len(lines), fontsize=8.5, frameon=False)
    drawn.savefig(path, dpi=130)
    plt.close(drawn)


def main():
    """Compute, and write the table and the figure."""
    folder, frame = Path("docs/results"), table()
    frame.to_csv(folder / "many_gpus.csv", index=False, float_format="%.4g")
    figure(frame, folder / "many_gpus.png")
    print("Written:", folder / "many_gpus.csv", folder / "many_gpus.png", sep="\n  ")


if __name__ == "__main__":
    main()
