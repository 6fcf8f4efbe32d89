"""How do time and memory grow, with what, and how does the tuned peer's grow beside them?

    python -m benchmarks.scaling            docs/results/scaling.csv and .png, 6 min on two cores

One number at a time moves away from the middle: 64 reviews of 128 tokens, batches of 16, rank 16,
bottleneck 64, the bundled encoder. Reviews are made up, all of one length, so that nothing but
that number moves. An exponent is the slope of log time (or memory) over log of the number.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

import hardware
from benchmarks.systems import Worker
from benchmarks.work import Work

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MIDDLE = Work(reviews=64, length=128, batch_size=16, size=16)
GRID = {  # what moves: its values, the method, how it is set
    "reviews": ((64, 128, 256), "lora", lambda w, v: replace(w, reviews=v)),
    "tokens per review": ((32, 128, 512), "lora", lambda w, v: replace(w, length=v)),
    "batch": ((4, 16, 64), "lora", lambda w, v: replace(w, batch_size=v)),
    "rank": ((4, 32, 256), "lora", lambda w, v: replace(w, size=v)),
    "bottleneck": ((16, 64, 256), "adapter", lambda w, v: replace(w, size=v)),
    "width": ((192, 384, 768), "lora", lambda w, v: replace(w, shape=str(v))),
}


def points() -> pd.DataFrame:
    """Seconds a pass and peak memory of ours and the tuned peer's at each point of the grid."""
    rows = []
    for what, (values, method, change) in GRID.items():
        systems = ("ours", "peft tuned") if method == "lora" else ("ours",)  # peft has no adapters
        for value in values:
            work = replace(change(MIDDLE, value), method=method)
            workers = [Worker(system, work) for system in systems]
            seconds = np.array([[worker() for worker in workers] for _ in range(4)])
            warm = seconds[1:].T  # (systems, repeats)
            for worker, times in zip(workers, warm, strict=True):
                peak = worker.peak_memory()
                rows.append((what, value, worker.system, np.median(times), peak, len(times)))
                worker.close()
                print(f"{what} {value}: {worker.system} {np.median(times):.2f} s", flush=True)
    columns = ["what", "value", "system", "seconds", "peak_memory_mib", "repeats"]
    return pd.DataFrame(rows, columns=columns)


def exponents(frame: pd.DataFrame, quantity: str) -> pd.Series:
    """Slopes of log `quantity` over log value, by (what, system)."""

    def slope(group):
        return np.polyfit(np.log(group["value"]), np.log(group[quantity]), 1)[0]

    groups = frame.groupby(["what", "system"], sort=False)[["value", quantity]]
    return groups.apply(slope).rename(f"exponent of {quantity}")


def figure(frame: pd.DataFrame, path: Path) -> None:
    """A column for each number that moves: time above, memory below."""
    drawn, panels = plt.subplots(2, len(GRID), figsize=(15, 5.6), sharex="col", sharey="row")
    for row, quantity in enumerate(("seconds", "peak_memory_mib")):
        slopes = exponents(frame, quantity)
        for column, what in enumerate(GRID):
            axes = panels[row, column]
            for system, colour, marker in (
                ("ours", "#009E73", "o"),
                ("peft tuned", "#999999", "s"),
            ):
                part = frame[(frame["what"] == what) & (frame["system"] == system)]
                if len(part):
                    label = f"{system}: exponent {slopes[what, system]:z.2f}"
                    axes.loglog(part["value"], part[quantity], marker + "-", c=colour, label=label)
            axes.legend(fontsize=7.5, frameon=False, loc="upper left")
            axes.grid(alpha=0.3, which="both")
            axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            values = GRID[what][0]
            axes.set_xticks(values, [str(value) for value in values])
            if row:
                axes.set_xlabel(what)
    for axes in panels[:, 0]:
        axes.set_ylim(top=3 * axes.get_ylim()[1])  # room for the legends
    panels[0, 0].set_ylabel("seconds a pass")
    panels[1, 0].set_ylabel("peak memory above\nthe loaded model (MiB)")
    drawn.suptitle(
        "How do time and memory of training grow? LoRA, and adapters where the bottleneck moves; "
        f"{hardware.describe(hardware.choose_device())}",
        fontsize=11,
    )
    drawn.tight_layout()
    drawn.savefig(path, dpi=150)
    plt.close(drawn)


def main():
    """Time the grid, print the exponents, and write both."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    folder = Path("docs/results")
    frame = points()
    slopes = pd.concat([exponents(frame, m) for m in ("seconds", "peak_memory_mib")], axis=1)
    frame.to_csv(folder / "scaling.csv", index=False, float_format="%.4g")
    figure(frame, folder / "scaling.png")
    print(slopes.to_string(float_format="{:.2f}".format))
    print(f"Written:\n  {folder / 'scaling.csv'}\n  {folder / 'scaling.png'}")


if __name__ == "__main__":
    main()
