"""Tests and timings of this package on a CUDA GPU, in one command of about ten minutes.

    python -m studies.gpu                into results/gpu: a log of each part, and parts.csv
    python -m studies.gpu tests speed    some parts

It needs only the bundled MiniLM and film reviews (studies/offline.py). Speeds are measured with an
encoder of DistilBERT's shape and random weights.

If a part fails, or takes longer than its limit, the other parts still run.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModel

import data_utils
import hardware
from boundary import write
from studies import methods
from studies.work import Training, loaded, runs_of

FOLDER = Path("results/gpu")
ENCODER = FOLDER / "encoder"
RUN = f"finetuning.py --fresh --results {FOLDER} --preset"
SPEED = f"-m studies.speed --model {ENCODER} --blocks 3 --reviews 1024 --rounds 3"
LIMIT = 600  # seconds of each part
PARTS = {  # arguments of Python
    "tests": "-m pytest -n 0 tests/test_finetuning.py tests/test_training.py tests/test_batches.py",
    "quick": f"{RUN} quick",  # its accuracies should be a CPU's, up to a seed's effect
    "labels": f"{RUN} quick --experiment labels --labels 2000 --test-examples all",
    "speed": f"{SPEED} --into {FOLDER}",  # steps beside peft and Trainer, and MFU
    "methods": "-m studies.gpu here methods",  # each method's step beside LoRA's
    "steps": "-m studies.gpu here steps",  # what a LoRA step waits for, and its kernels
}
STEPS = ("--methods", "lora", "--pooling", "layers", "--labels", "1000")
WAITS = ("Memcpy DtoH", "cudaStreamSynchronize")  # the host reads a value, or waits otherwise


def run(name: str) -> dict:
    """Run one part; returns exit status (124: too long) and seconds. Its output goes to a file."""
    command, start = [sys.executable, *PARTS[name].split()], time.perf_counter()
    with (FOLDER / f"{name}.log").open("w") as log:
        options = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
        part = subprocess.Popen(command, env=os.environ | {"GPU_TESTS": "1"}, **options)
        try:
            status = part.wait(LIMIT)
        except subprocess.TimeoutExpired:
            status = 124
        finally:  # its workers end with it
            with suppress(ProcessLookupError):
                os.killpg(part.pid, signal.SIGKILL)
            part.wait()
    return {"part": name, "status": status, "seconds": round(time.perf_counter() - start, 1)}


def run_all(names: list[str], device: torch.device) -> int:
    """Run these parts, and write parts.csv; returns 0, or 1 where one failed."""
    rows = []
    for name in names:
        rows.append(run(name) | {"device": hardware.describe(device)})
        print("{part}: exit status {status}, {seconds} s".format(**rows[-1]), flush=True)
    write(FOLDER / "parts.csv", pd.DataFrame(rows).to_csv(index=False))
    return int(any(row["status"] for row in rows))


def make_encoder(folder: Path) -> None:
    """Write an encoder of DistilBERT's shape, with random weights and MiniLM's tokenizer."""
    shutil.copytree(data_utils.encoder_folder(), folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(folder, hidden_size=768, intermediate_size=3072)
    AutoModel.from_config(config).save_pretrained(folder)


def profiled(*options: str) -> tuple[profile, int]:
    """The profile of a method's steps over the training texts, and the number of steps."""
    with loaded(*options) as data:
        hardware.prepare_device(data.device)
        training = Training(data, runs_of(data)[0])
        training()  # the first pass is slow
        activities = [ProfilerActivity.CPU]
        activities += [ProfilerActivity.CUDA] * (data.device.type == "cuda")
        with profile(activities=activities) as recorded:
            training.steps()
    return recorded, len(training.batches)


def waits(recorded: profile, steps: int) -> dict[str, float]:
    """How often each of WAITS happens in a step. Expected: never."""
    counts = dict.fromkeys(WAITS, 0)
    for event in recorded.key_averages():
        for name in WAITS:
            counts[name] += event.count * event.key.startswith(name)
    return {name: count / steps for name, count in counts.items()}


def print_steps(*options: str) -> None:
    """Print what a step waits for, and a table of the kernels that take its time."""
    recorded, steps = profiled(*options)
    for name, count in waits(recorded, steps).items():
        print(f"{name}: {count:.3g} a step, of {steps}")
    kind = hardware.choose_device().type
    print(recorded.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=25))


def main(arguments: list[str]) -> int:
    """Run these parts, or all; returns 0, 1 where one failed, 2 without a GPU."""
    device = hardware.choose_device()
    if device.type != "cuda":
        print("error: no CUDA GPU is available; this is for one", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments == ["here", "steps"]:
        print_steps(*STEPS, "--model", str(ENCODER))
        return 0
    if arguments == ["here", "methods"]:
        methods.write_rows(str(ENCODER), FOLDER / "methods.csv")
        return 0
    make_encoder(ENCODER)
    return run_all(arguments or list(PARTS), device)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
