"""What a CUDA GPU should show of this package, in one command of about ten minutes.

    python -m benchmarks.gpu                into results/gpu: a log of each part, and parts.csv
    python -m benchmarks.gpu tests speed    some parts

It needs the bundled MiniLM and the reviews alone (benchmarks/offline.py). Speeds are those of an
encoder of DistilBERT's shape with random weights.

    tests      those of the device, of float16's scaled loss, of batches and the loop
    quick      the preset, end to end; its accuracies should be a CPU's, within what a seed does
    base       the preset with MiniLM, one seed
    speed      steps beside peft and Trainer: texts a second, model FLOPs utilisation, peak memory
    methods    each method's step and memory beside LoRA's
    profile    where a LoRA step's time goes, kernel by kernel

A part that fails, or takes longer than its limit, costs no other part.
"""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

import hardware
from benchmarks import methods
from benchmarks.work import Training, Work, new_states
from boundary import write

FOLDER = Path("results/gpu")
RUN = ("finetuning.py", "--fresh", "--results", str(FOLDER), "--experiment")
LORA = Work(reviews=256, max_tokens=128, shape="768", blocks=3)
PARTS = {  # arguments of Python, and the most seconds
    "tests": (
        ("-m", "pytest", "-n", "0", "tests/test_finetuning.py", "tests/test_batches.py"),
        180,
    ),
    "quick": ((*RUN, "quick"), 120),
    "base": ((*RUN, "base", "--model", "minilm", "--seeds", "0"), 180),
    "speed": (("-m", "benchmarks.speed", "--quick", "--model", "768", "--blocks", "3"), 240),
    "methods": (("-m", "benchmarks.gpu", "here", "methods"), 180),
    "profile": (("-m", "benchmarks.gpu", "here", "profile"), 120),
}


def run(name: str) -> dict:
    """Run one part; its exit status (124: it took too long) and seconds. Its output is a file."""
    arguments, limit = PARTS[name]
    start = time.perf_counter()
    with (FOLDER / f"{name}.log").open("w") as log:
        try:
            output = {"stdout": log, "stderr": subprocess.STDOUT}
            status = subprocess.run(
                [sys.executable, *arguments], timeout=limit, **output
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
    return {"part": name, "status": status, "seconds": round(time.perf_counter() - start, 1)}


def kernels(work: Work, device: torch.device) -> str:
    """A table of what one pass of LoRA over the reviews of `work` spends its time on."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with new_states():
        training = Training(work, device)
        training()  # the first pass is slow
        with profile(activities=activities) as found:
            training()
    return found.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=25)


def main(arguments: list[str]) -> int:
    """Run these parts, or all; returns 0, 1 where one failed, 2 without a GPU."""
    device = hardware.choose_device()
    if device.type != "cuda":
        print("error: no CUDA GPU is available; this is for one", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments == ["here", "profile"]:
        print(write(FOLDER / "profile.txt", kernels(LORA, device)).read_text())
        return 0
    if arguments == ["here", "methods"]:
        methods.TABLE = FOLDER / "methods.csv"
        methods.main([LORA.shape])
        return 0
    rows = []
    for name in arguments or PARTS:
        rows.append(run(name) | {"device": hardware.describe(device)})
        print("{part}: exit status {status}, {seconds} s".format(**rows[-1]), flush=True)
    write(FOLDER / "parts.csv", pd.DataFrame(rows).to_csv(index=False))
    return int(any(row["status"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
