"""What do two processes of one thread make of the work of one process of two threads?

    python -m benchmarks.processes            docs/results/processes.csv, 12 min on two cores
    python -m benchmarks.processes --quick    a glance, into results/benchmarks

Whole commands in turn, in each of three rounds, the bundled encoder with all blocks learning:

    runs       nine runs (head-only, adapters, LoRA; three seeds); seconds of the whole command
    data       one run of LoRA; its seconds of training
    exchange   LoRA's gradients added up over two processes; seconds a step, and their share

Medians over the rounds; a speed is the median of the ratios within rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

import finetuning
import hardware
from benchmarks.training_speed import machine, place
from benchmarks.work import Work, as_run
from experiment import processes

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
RUNS = ("--methods", "head", "adapter", "lora", "--seeds", "0", "1", "2", "--train-examples", "400")
RUNS += ("--max-tokens", "128", "--epochs", "1", "--evaluations-per-epoch", "1")
RUNS += ("--validation-examples", "100", "--test-examples", "200")
REVIEWS = 512
DATA = ("--methods", "lora", "--seeds", "0", "--train-examples", f"{REVIEWS}")
DATA += ("--max-tokens", "256", "--epochs", "1", "--validation-examples", "32")
DATA += ("--test-examples", "32")
FEW = ("--train-examples", "64", "--validation-examples", "32", "--test-examples", "32")
EXCHANGES = 100


def command(launcher, folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds of the whole command, and of training on average over its runs."""
    options = ["--experiment", "timed", "--results", folder, "--blocks", "all", "--fresh"]
    begun = time.perf_counter()
    subprocess.run(
        [*launcher, "finetuning.py", *options, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    whole = time.perf_counter() - begun
    records = [json.loads(path.read_text()) for path in folder.glob("timed/*/run.json")]
    return whole, sum(record["training_seconds"] for record in records) / len(records)


def exchange() -> float:
    """Seconds in which two processes add up LoRA's gradients and a step's loss."""
    done = subprocess.run(
        [*TORCHRUN, "-m", "benchmarks.processes", "--exchange"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return float(done.stdout)


def add_up_gradients() -> None:
    """What each of the two processes of `exchange` does; the first prints the seconds."""
    processes.join()
    model = finetuning.start(as_run(Work(), torch.device("cpu"))).model
    loss = torch.zeros(())
    for _ in range(EXCHANGES):  # warm-up
        processes.all_reduce(*processes.gradients(model), loss)
    begun = time.perf_counter()
    for _ in range(EXCHANGES):
        processes.all_reduce(*processes.gradients(model), loss)
    if processes.leads():
        print((time.perf_counter() - begun) / EXCHANGES)


def one_round(folder: Path, few: tuple[str, ...]) -> list[dict]:
    """Each of the three, with one process and with two."""
    rows = []
    for what, arguments in {"runs": RUNS, "data": DATA}.items():
        for count in (1, 2):
            launcher = (sys.executable,) if count == 1 else TORCHRUN
            more = (*arguments, *few, "--parallel", what)
            whole, training = command(launcher, folder, *more)
            seconds = whole if what == "runs" else training
            rows.append({"what": what, "processes": count, "seconds": seconds})
            print(f"  {what}, processes: {count}, {seconds:.1f} s", flush=True)
    return [*rows, {"what": "exchange", "processes": 2, "seconds": exchange()}]


def table(timings: pd.DataFrame, steps: int, where: str) -> pd.DataFrame:
    """A row for each of the three, with what two processes make of it."""
    by = timings.pivot(index="round", columns=["what", "processes"], values="seconds")
    a_step = by["data", 2] / steps
    rows = [
        {
            "what": what,
            "one_process_seconds": by[what, 1].median(),
            "two_processes_seconds": by[what, 2].median(),
            "speed": (by[what, 1] / by[what, 2]).median(),
        }
        for what in ("runs", "data")
    ]
    exchanged = by["exchange", 2]
    rows.append(
        {
            "what": "exchange",
            "two_processes_seconds": exchanged.median(),
            "share_of_a_step": (exchanged / a_step).median(),
        }
    )
    return pd.DataFrame(rows).assign(rounds=len(by), device=where)


def main():
    """Time everything, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less, into results/benchmarks")
    parser.add_argument("--exchange", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.exchange:
        add_up_gradients()
        return
    os.environ.pop("OMP_NUM_THREADS", None)
    folder, where = place(asked.quick), machine(hardware.choose_device())
    few, rounds = (FEW, 1) if asked.quick else ((), 3)
    reviews = int(few[1]) if few else REVIEWS
    timings = []
    with tempfile.TemporaryDirectory() as results:
        command((sys.executable,), Path(results), *RUNS, "--methods", "head")  # fills the caches
        for number in range(rounds):
            print(f"Round {number + 1} of {rounds}", flush=True)
            timings += [row | {"round": number} for row in one_round(Path(results), few)]
    steps = -(-reviews // finetuning.BATCH_SIZE)
    found = table(pd.DataFrame(timings), steps, where)
    found.to_csv(folder / "processes.csv", index=False, float_format="%.4g")
    print(found.drop(columns="device").to_string(index=False, float_format="{:.3g}".format))
    print("Written:", folder / "processes.csv")


if __name__ == "__main__":
    main()
