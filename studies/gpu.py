"""What a CUDA GPU should show of this package, in one command of about ten minutes.

    python -m studies.gpu                into results/gpu: a log of each part, and parts.csv
    python -m studies.gpu tests speed    some parts

It needs the bundled MiniLM and movie reviews alone (studies/offline.py). Speeds are those of an
encoder of DistilBERT's shape with random weights.

A part that fails, or takes longer than its limit, costs no other part.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModel

import data_utils
import hardware
from boundary import write
from studies import methods
from studies.work import Training, prepared

FOLDER = Path("results/gpu")
ENCODER = FOLDER / "encoder"
RUN = f"finetuning.py --fresh --results {FOLDER} --experiment"
SPEED = f"-m studies.speed --model {ENCODER} --blocks 3 --reviews 1024 --rounds 3"
LIMIT = 240  # seconds of each part
PARTS = {  # arguments of Python
    "tests": "-m pytest -n 0 tests/test_finetuning.py tests/test_training.py tests/test_batches.py",
    "quick": f"{RUN} quick",  # its accuracies should be a CPU's, within what a seed does
    "base": f"{RUN} base --model minilm --seeds 0",
    "speed": f"{SPEED} --into {FOLDER}",  # steps beside peft and Trainer
    "methods": "-m studies.gpu here methods",  # each method's step beside LoRA's
    "profile": "-m studies.gpu here profile",  # where a LoRA step's time goes, by kernel
}


def run(name: str) -> dict:
    """Run one part; its exit status (124: it took too long) and seconds. Its output is a file."""
    command, start = [sys.executable, *PARTS[name].split()], time.perf_counter()
    with (FOLDER / f"{name}.log").open("w") as log:
        output = {"stdout": log, "stderr": subprocess.STDOUT}
        try:
            status = subprocess.run(command, timeout=LIMIT, **output).returncode
        except subprocess.TimeoutExpired:
            status = 124
    return {"part": name, "status": status, "seconds": round(time.perf_counter() - start, 1)}


def make_encoder(folder: Path) -> None:
    """Write one of DistilBERT's shape, with random weights and MiniLM's tokenizer."""
    shutil.copytree(data_utils.encoder_folder(), folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(folder, hidden_size=768, intermediate_size=3072)
    AutoModel.from_config(config).save_pretrained(folder)


def kernels(*options: str) -> str:
    """A table of what one pass of LoRA over the training texts spends its time on."""
    with prepared(*options) as experiment:
        device = experiment.device
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
        training = Training(experiment, experiment.runs()[0])
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
        print(kernels("--experiment", "quick", "--methods", "lora", "--model", str(ENCODER)))
        return 0
    if arguments == ["here", "methods"]:
        methods.TABLE = FOLDER / "methods.csv"
        methods.main([str(ENCODER)])
        return 0
    make_encoder(ENCODER)
    rows = []
    for name in arguments or PARTS:
        rows.append(run(name) | {"device": hardware.describe(device)})
        print("{part}: exit status {status}, {seconds} s".format(**rows[-1]), flush=True)
    write(FOLDER / "parts.csv", pd.DataFrame(rows).to_csv(index=False))
    return int(any(row["status"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
