"""How fast is training, and how near to what the machine can do?

    python -m studies.speed                  all blocks learn
    python -m studies.speed --blocks 3 2     the last 3, and 2
    python -m studies.speed --reviews 16 --rounds 1 --into results       a quick look

It writes speed.csv and speed_checks.csv into docs/results; `benchmark` names the options.

Every system takes its turn in every round, in a new process, so that a machine that slows down
slows all of them; the second of two passes is timed. Each number is the median over the rounds; of
memory it is the maximum. A ratio is the median of the ratios within rounds. Where the last blocks
alone learn, our program reads the other blocks' output from a file; peft adapts the same blocks,
but runs all. The floor of a ratio is the ratio of the required FLOPs (studies/flops.py).

    peft defaults   peft and transformers' Trainer as they come
    peft tuned      bf16 if faster, batches of similar length, no dropout inside the encoder, and
                    what hardware.py sets for the device
"""

import argparse
import math
import multiprocessing
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch

import hardware
from experiment import Data, Run
from studies import flops, peers
from studies.work import Training, loaded, peak_memory, put_rows, runs_of

METHODS = ("lora", "adapter")
KEY = ["system", "method", "blocks"]  # blocks: how many of the last ones learn
OPTIONS = ("--blocks", "all", "--max-tokens", "512", "--pooling", "layers", "--test-examples", "2")
OPTIONS += ("--epochs", "100")  # the learning rate never reaches 0


def systems(depths: list[int]) -> list[tuple[str, str]]:
    """The systems in the order of their turns, each with a method as one types it."""
    rows = [("ours", "full")] if depths else [("peft defaults", "lora"), ("ours", "full")]
    for last in ("", *(f"(blocks={blocks})" for blocks in depths)):
        rows += [("ours", "lora" + last), ("ours", "adapter" + last), ("peft tuned", "lora" + last)]
    return rows


def measure(system: str, method: str, model: str, reviews: int) -> dict:
    """A row for one pass over the texts: seconds and required FLOPs a text, and memory (MiB)."""
    as_it_comes, options = system == "peft defaults", ["--methods", method, "--model", model]
    if as_it_comes:  # few reviews: it takes long, in batches that are not grouped by length
        reviews, options = min(32, reviews), [*options, "--encoder-dropout", "own"]
    options += ["--labels", str(round(reviews / 0.8))]  # validation's too
    with loaded(*OPTIONS, *options) as data:
        if not as_it_comes:
            hardware.prepare_device(data.device)
        (run,) = runs_of(data)
        two_passes = ours(data, run) if system == "ours" else with_peft(data, run, not as_it_comes)
        seconds, memory = peak_memory(data.device, two_passes)
        lengths, name = data.splits(run)["train"].lengths, run.method.name
        shape, size = shape_of(data, run.method.hyperparameters)
    row = {"system": system, "method": name, "blocks": shape.blocks, "memory": memory}
    needed = flops.required(shape, lengths, name, size)
    return row | {"seconds": seconds / len(lengths), "flops": needed / len(lengths)}


def shape_of(data: Data, chosen: dict) -> tuple[flops.Shape, int]:
    """The encoder's sizes, with the number of blocks that run, and the rank or bottleneck, or 0."""
    config, last = data.encoder.config, chosen["blocks"]
    sizes = config.hidden_size, config.intermediate_size, last or config.num_hidden_layers
    size = chosen.get("rank") or chosen.get("bottleneck", 0)
    return flops.Shape(*sizes, stored=last is not None), size


def ours(data: Data, run: Run) -> Callable[[], float]:
    """A function that makes two passes of `finetuning.py`'s loop; returns the second's seconds."""
    training = Training(data, run)
    return lambda: [training(), training()][-1]


def with_peft(data: Data, run: Run, is_tuned: bool) -> Callable[[], float]:
    """As `ours`, but the same LoRA by peft and Trainer."""
    device, ends = data.device, []
    model = peers.lora(data.encoder.pretrained.to(device), run.method, task_type="SEQ_CLS")
    options = peers.tuned(device) if is_tuned else {}
    steps = math.ceil(len(data.division(run).train) / data.settings.batch_size)

    def note():
        hardware.synchronise()
        ends.append(time.perf_counter())

    def two_passes():
        at = {steps: note, 2 * steps: note}
        peers.train(data, run, model, at, num_train_epochs=2, **options)
        return ends[1] - ends[0]

    return two_passes


def with_rates(row: dict, number: int, rate: float) -> dict:
    """The row with its round, reviews a second, and utilisation of `rate` FLOPs a second."""
    used = row["flops"] / row["seconds"] / rate
    return row | {"round": number, "utilisation": used, "reviews_a_second": 1 / row["seconds"]}


def time_systems(device: torch.device, asked: argparse.Namespace) -> pd.DataFrame:
    """A row for each system and round."""
    context, rows = multiprocessing.get_context("forkserver"), []
    context.set_forkserver_preload(["studies.peers", "studies.work"])  # imports once
    for number in range(asked.rounds):
        rate = flops.matrix_rate(device)
        for system, method in systems(asked.blocks):
            with ProcessPoolExecutor(1, context) as pool:
                row = pool.submit(measure, system, method, asked.model, asked.reviews).result()
            rows.append(with_rates(row, number, rate))
            print(f"{number + 1}: {system}, {method}: {row['seconds']:.3g} s a text", flush=True)
    return pd.DataFrame(rows)


def table(timings: pd.DataFrame, device: str) -> pd.DataFrame:
    """A row for each system: rates, model FLOPs utilisation and peak memory, over the rounds."""
    medians = timings.groupby(KEY, sort=False).agg(
        reviews_per_second=("reviews_a_second", "median"),
        model_flops_utilisation=("utilisation", "median"),
        peak_memory_mib=("memory", "max"),
        repeats=("round", "count"),
    )
    return medians.reset_index().assign(device=device)


def checks(timings: pd.DataFrame, blocks: int) -> list[tuple[str, int, float, float | None]]:
    """Claims on training so many blocks: the words, the blocks, the measured ratio, its floor."""
    each = timings.pivot(index="round", columns=KEY)
    every, rows = timings["blocks"].max(), []

    def claim(words, one, other, value="seconds", floor=True):
        ratio, least = [
            (each[column][one] / each[column][other]).median() for column in (value, "flops")
        ]
        rows.append((words, blocks, ratio, least if floor else None))

    for method in METHODS:
        system = "ours", method, blocks
        others = {"the same on all": ("ours", method, every)} if blocks < every else {}
        for words, other in (others | {"full fine-tuning of all": ("ours", "full", every)}).items():
            claim(f"{method}: an epoch, against {words}", system, other)
            claim(f"{method}: peak memory, against {words}", system, other, "memory", floor=False)
        for peer in ("peft defaults", "peft tuned"):
            if (peer, method, blocks) in each["seconds"]:
                theirs = peer, method, blocks
                claim(f"{method}: times as fast as {peer}", theirs, system, floor=False)
    return rows


def main():
    """Time everything, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, nargs="*", default=[], help="of the last blocks")
    parser.add_argument("--model", default="minilm", help="as finetuning.py's")
    parser.add_argument("--reviews", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, default=Path("docs/results"), help="a folder")
    asked = parser.parse_args()
    device = hardware.choose_device()
    where = f"{hardware.describe(device)}, {platform.system()}, torch {torch.__version__}"
    timings = time_systems(device, asked)
    claims = [row for k in asked.blocks or [timings["blocks"].max()] for row in checks(timings, k)]
    tables = {
        "speed": table(timings, where),
        "speed_checks": pd.DataFrame(claims, columns=["what", "blocks", "measured", "floor"]),
    }
    name = " ".join([asked.model, *(["--blocks", *map(str, asked.blocks)] if asked.blocks else [])])
    for kind, rows in tables.items():
        print(rows.to_string(index=False, float_format="{:.3g}".format), end="\n\n")
        rows.insert(0, "benchmark", name)
        put_rows(asked.into / f"{kind}.csv", rows, ["benchmark"])


if __name__ == "__main__":
    main()
