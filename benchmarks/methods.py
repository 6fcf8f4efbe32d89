"""What does each method cost, beside LoRA in the same blocks?

    python -m benchmarks.methods        docs/results/methods_cost.csv, ten minutes of a quiet CPU
    python -m benchmarks.methods mpnet  the rows of one encoder anew

A batch of 32 IMDB reviews of up to 128 tokens, the head reading all layers, the last 3 blocks from
stored hidden states, as in the presets `quick` and `base`. LoRA and one other method take their
steps in turn, and a ratio is the median of the ratios within pairs. A pair during which other
processes took more than a tenth of the machine is repeated, as long as its method has time left;
`others_share` is the most that they took in the pairs that count.
"""

import gc
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd

import data_utils
import hardware
from benchmarks.work import Training, Work, new_states
from modeling import METHODS
from modeling.finetuned import save_trained

TABLE = Path(__file__).parents[1] / "docs" / "results" / "methods_cost.csv"
SIZES = {"lora": 16, "adapter": 64}  # LoRA's rank, the adapters' bottleneck
PAIRS, SECONDS = 7, 45  # of each method, undisturbed; seconds after which two of any are enough


def busy() -> tuple[float, float]:
    """Seconds of all cores since the start: of all processes, and of this one."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    return (sum(map(int, fields[:8])) - idle) / 100, time.process_time()


def pairs(lora: Training, other: Training) -> pd.DataFrame:
    """Steps of both in turn: their seconds, and the share of the machine that others took."""
    rows, end = [], time.perf_counter() + SECONDS
    while sum(row["others"] < 0.1 for row in rows) < PAIRS:
        if len(rows) >= 2 and time.perf_counter() > end:
            break
        start, (all_before, own_before) = time.perf_counter(), busy()
        row = {"lora": lora(), "other": other()}
        all_after, own_after = busy()
        taken = (all_after - all_before) - (own_after - own_before)
        rows.append(row | {"others": taken / (time.perf_counter() - start) / os.cpu_count()})
    return pd.DataFrame(rows).nsmallest(PAIRS, "others")


def measure(work: Work, lora: Training, device) -> dict:
    """A row of the table."""
    other = Training(work, device)
    gc.collect()
    hardware.reset_peak_memory(device)
    resting = hardware.peak_memory(device)
    other()
    peak = hardware.peak_memory(device) - resting
    timed = pairs(lora, other)
    ratios = timed["other"] / timed["lora"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trained.safetensors"
        save_trained(other.state.model, path)
        size = path.stat().st_size
    return {
        "encoder": work.shape,
        "method": work.method,
        "step_seconds": timed["other"].median(),
        "lora_step_seconds": timed["lora"].median(),
        "ratio": ratios.median(),
        "ratio_low": ratios.min(),
        "ratio_high": ratios.max(),
        "pairs": len(timed),
        "others_share": timed["others"].max(),
        "peak_memory_mib": peak,
        "checkpoint_mb": size / 1e6,
        "trained_parameters": other.state.model.count_parameters()[0],
    }


def main(encoders: list[str]) -> None:
    """Measure every method on these encoders, and write their rows of the table."""
    device, rows = hardware.choose_device(), []
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"encoder": []})
    kept = table[~table["encoder"].isin(encoders)]
    for encoder in encoders:
        base = Work(shape=encoder, blocks=3, reviews=32, max_tokens=128, pooling="layers")
        with new_states():
            lora = Training(base, device)
            lora()
            for method in METHODS:
                own = replace(base, method=method, size=SIZES.get(method, 0))
                row = measure(own, lora, device)
                rows.append(row | {"device": hardware.describe(device)})
                print(f"{encoder} {method}: {row['ratio']:.3g} of LoRA's step", flush=True)
                table = pd.concat([kept, pd.DataFrame(rows)])
                table.to_csv(TABLE, index=False, float_format="%.4g")


if __name__ == "__main__":
    main(sys.argv[1:] or list(data_utils.ENCODERS))
