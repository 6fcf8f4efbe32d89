"""What does each method cost, beside LoRA in the same blocks?

    python -m studies.methods        docs/results/methods_cost.csv, ten minutes of a quiet CPU
    python -m studies.methods mpnet  the rows of one encoder anew

A batch of 32 IMDB texts of up to 128 tokens, POOLING "layers", the last 3 blocks from cached
hidden states, as in the presets `quick` and `base`. LoRA and one other method take their
steps in turn, and a ratio is the median of the ratios within pairs.
"""

import sys
from pathlib import Path

import pandas as pd

import data_utils
import hardware
from modeling import METHODS
from studies.work import Training, peak_memory, prepared, put_rows

TABLE = Path(__file__).parents[1] / "docs" / "results" / "methods_cost.csv"
OPTIONS = ("--experiment", "quick", "--labels", "40", "--test-examples", "2", "--epochs", "100")
PAIRS = 7  # of steps, for each method


def measure(experiment, run, lora: Training) -> dict:
    """A row of the table."""
    other = Training(experiment, run)
    _, peak = peak_memory(experiment.device, other)
    timed = pd.DataFrame([{"lora": lora(), "other": other()} for _ in range(PAIRS)])
    ratios = timed["other"] / timed["lora"]
    trained, _ = other.state.model.count_parameters()
    return {
        "encoder": experiment.settings.model,
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
        "device": hardware.describe(experiment.device),
    }


def main(encoders: list[str]) -> None:
    """Measure every method on these encoders, and write their rows of the table."""
    for encoder in encoders:
        with prepared(*OPTIONS, "--model", encoder, "--methods", *METHODS) as experiment:
            runs = {run.method.name: run for run in experiment.runs()}
            lora = Training(experiment, runs["lora"])
            lora()  # the first step is slow
            for method, run in runs.items():
                row = measure(experiment, run, lora)
                print(f"{encoder} {method}: {row['ratio']:.3g} of LoRA's step", flush=True)
                put_rows(TABLE, [row], ["encoder", "method"])


if __name__ == "__main__":
    main(sys.argv[1:] or list(data_utils.ENCODERS))
