"""What do other busy processes cost, and how long should OpenMP's threads spin?

    python -m benchmarks.beside_other_work      docs/results/beside_other_work.csv, 10 min

Each setting has a process of its own; all take turns in each of five rounds, alone and beside one
and two busy processes. MiniLM, LoRA in the last 3 blocks, 96 reviews, 128 tokens; medians.
"""

import multiprocessing
import os
import subprocess
import sys

import pandas as pd
import torch

import data_utils
import finetuning
import hardware
from benchmarks.work import Work, as_run, new_states
from experiment import cached_states

SETTINGS = [("GOMP_SPINCOUNT", n) for n in ("300000", "10000", "1000")]  # the first: libgomp's own
SETTINGS.append(("OMP_WAIT_POLICY", "passive"))
CPU = torch.device("cpu")


def serve(pipe, work: Work) -> None:
    """Answer each word with the seconds of an epoch, an evaluation and the frozen blocks' pass."""
    hardware.prepare_device(CPU)
    experiment, run = as_run(work, CPU)
    state, settings = finetuning.start(experiment, run), experiment.settings
    while pipe.recv():
        training, evaluation = hardware.Clock(CPU), hardware.Clock(CPU)
        with new_states():
            splits, frozen = cached_states(state.model, experiment.splits(0), settings)
            state.model.train()
            with training:
                for index in data_utils.training_batches(splits["train"].lengths, 32, 0, 1):
                    finetuning.step(state, splits["train"], index, settings)
            with evaluation:
                finetuning.predict(state.model, splits["train"], settings)
        pipe.send((training.seconds, evaluation.seconds, frozen))


if __name__ == "__main__":
    rows, pipes, context = [], {}, multiprocessing.get_context("spawn")
    for name, value in SETTINGS:
        os.environ.pop("GOMP_SPINCOUNT", None)  # which this process has set
        os.environ[name] = value
        pipes[f"{name}={value}"], theirs = context.Pipe()
        given = theirs, Work(reviews=96, max_tokens=128, blocks=3)
        context.Process(target=serve, args=given, daemon=True).start()
    for busy in (0, *[0, 1, 2] * 5):
        others = [subprocess.Popen([sys.executable, "-c", "while 1: 0"]) for _ in range(busy)]
        for setting, pipe in pipes.items():
            pipe.send(True)
            rows.append((setting, busy, *pipe.recv()))
        for other in others:
            other.kill()
    names = ["setting", "busy_processes", "training", "evaluation", "frozen_pass"]
    table = pd.DataFrame(rows[len(pipes) :], columns=names)  # the first round was a warm-up
    table = table.groupby(names[:2], sort=False).median().reset_index()
    table = table.assign(device=hardware.describe(CPU))
    table.to_csv("docs/results/beside_other_work.csv", index=False, float_format="%.3g")
