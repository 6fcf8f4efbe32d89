"""What does each method cost, beside LoRA in the same blocks?

    python -m studies.methods        docs/results/methods_cost.csv, ten minutes of a quiet CPU
    python -m studies.methods mpnet  the rows of one encoder anew

A step has a batch of 32 IMDB texts of up to 128 tokens, POOLING "layers", and trains the last 3
blocks, from the cached output of the other blocks. LoRA and one other method take their steps in
turn, and a ratio is the median of the ratios within pairs.
"""

import sys
from pathlib import Path

import pandas as pd

import data_utils
import hardware
from experiment import Data, Run
from modeling import METHODS
from studies.work import Training, loaded, peak_memory, put_rows, runs_of

TABLE = Path(__file__).parents[1] / "docs" / "results" / "methods_cost.csv"
OPTIONS = ("--labels", "40", "--test-examples", "2", "--epochs", "100", "--pooling", "layers")
PAIRS = 7  # of steps, for each method


def measure(data: Data, run: Run, lora: Training) -> dict:
    """A row of the table: the steps of a run's method in turn with LoRA's."""
    other = Training(data, run)
    _, peak = peak_memory(data.device, other)
    timed = pd.DataFrame([{"lora": lora(), "other": other()} for _ in range(PAIRS)])
    ratios = timed["other"] / timed["lora"]
    trained, _ = other.state.model.count_parameters()
    return {
        "encoder": data.settings.model,
        "method": run.method.name,
        "step_seconds": timed["other"].median(),
        "lora_step_seconds": timed["lora"].median(),
        "ratio": ratios.median(),
        "ratio_low": ratios.min(),
        "ratio_high": ratios.max(),
        "pairs": PAIRS,
        "peak_memory_mib": peak,
        "checkpoint_mb": 4e-6 * trained,  # float32, and a header of some kilobytes
        "trained_parameters": trained,
        "device": hardware.describe(data.device),
    }


def write_rows(encoder: str, table: Path = TABLE, *options: str) -> None:
    """Measure every method on this encoder, and write their rows of the table."""
    given = OPTIONS, ("--model", encoder, "--methods", *METHODS), options
    with loaded(*(option for part in given for option in part)) as data:
        hardware.prepare_device(data.device)
        runs = {run.method.name: run for run in runs_of(data)}
        lora = Training(data, runs["lora"])
        lora()  # the first step is slow
        for method, run in runs.items():
            row = measure(data, run, lora)
            print(f"{encoder} {method}: {row['ratio']:.3g} of LoRA's step", flush=True)
            put_rows(table, [row], ["encoder", "method"])


if __name__ == "__main__":
    for name in sys.argv[1:] or data_utils.ENCODERS:
        write_rows(name)
