"""How fast is training, and how near to what the machine can do?

    python -m benchmarks.speed                  all blocks learn: docs/results/training_*, 20 min
    python -m benchmarks.speed --blocks 3 2     the last 3, and 2: docs/results/frozen_blocks_*
    python -m benchmarks.speed --quick          a glance, into results/benchmarks, 3 min

Every system takes its turn in every round, so that a machine that slows down slows all of them.
Each number is the median over the rounds, a ratio that of the ratios within rounds. Rates count
real tokens; padding counts for nothing. Where the last blocks alone learn, ours reads the output
of the others from a file; the peers adapt the same blocks, and run all. The floor of a ratio is
that of the required FLOPs (benchmarks/flops.py).
"""

import argparse
import platform
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd
import torch

import data_utils
import hardware
from benchmarks import flops
from benchmarks.systems import Worker
from benchmarks.work import Work

SIZES = {"lora": 16, "adapter": 64}  # LoRA's rank, the adapters' bottleneck
METHODS = tuple(SIZES)
KEY = ["system", "method", "blocks"]  # how many of the last blocks learn
PEERS = ("peft defaults", "peft tuned")


def systems(work: Work, depths: list[int]) -> list[tuple[str, Work]]:
    """What is timed, in the order of its turns."""
    rows = [("ours", method, None) for method in ("full", *METHODS)]
    if not depths:
        rows = [(peer, "lora", None) for peer in ("peft defaults", "peft tuned")] + rows
    rows.append(("ours, evaluation", "lora", None))
    for blocks in depths:
        rows += [("ours", method, blocks) for method in METHODS]
        rows += [("ours, evaluation", "lora", blocks), ("peft tuned", "lora", blocks)]
    works = []
    for system, method, blocks in rows:  # few reviews where batches are not grouped by length
        reviews = min(32, work.reviews) if system == "peft defaults" else work.reviews
        size = SIZES.get(method, 0)
        own = replace(work, method=method, size=size, blocks=blocks, reviews=reviews)
        works.append((system, own))
    return works


def time_systems(device, works: list[tuple[str, Work]], rounds: int) -> pd.DataFrame:
    """A row for each system and round; the second of two passes is timed."""
    workers, rows = [Worker(system, work) for system, work in works], []
    for number in range(rounds):
        rate = median(flops.matrix_rate(device) for _ in range(5))
        for worker in workers:
            worker()  # a process that has waited for minutes is slow at first
            system, work, lengths, seconds = worker.system, worker.work, worker.lengths, worker()
            row = {"round": number, "system": system, "method": work.method}
            row |= {"blocks": work.sizes.blocks, "seconds": seconds, "reviews": len(lengths)}
            row |= {"tokens": int(lengths.sum()), "memory": worker.peak_memory()}
            forward_only = system == "ours, evaluation"
            needed = flops.required(work.sizes, lengths, work.method, work.size, forward_only)
            rows.append(row | {"utilisation": needed / seconds / rate})
            print(f"  round {number + 1}: {system}, {work.method}: {seconds:.1f} s", flush=True)
    for worker in workers:
        worker.close()
    return pd.DataFrame(rows)


def table(timings: pd.DataFrame, device: str) -> pd.DataFrame:
    """A row for each system: rates, model FLOPs utilisation and peak memory, over the rounds."""
    seconds = timings["seconds"]
    timings = timings.assign(
        rate=timings["reviews"] / seconds, token_rate=timings["tokens"] / seconds
    )
    found = timings.groupby(KEY, sort=False).agg(
        reviews_per_second=("rate", "median"),
        tokens_per_second=("token_rate", "median"),
        model_flops_utilisation=("utilisation", "median"),
        peak_memory_mib=("memory", "max"),
        repeats=("round", "count"),
    )
    return found.reset_index().assign(device=device)


def checks(timings: pd.DataFrame, work: Work) -> list[tuple[str, float, float | None]]:
    """What is claimed of training `work.blocks` blocks: the measured value, and its floor."""
    each = timings.assign(each=timings["seconds"] / timings["reviews"])
    each = each.pivot(index="round", columns=KEY, values="each")
    peak, lengths = timings.groupby(KEY)["memory"].max(), work.split().lengths
    whole = replace(work, blocks=None)
    last, every = work.sizes.blocks, whole.sizes.blocks

    def required(work, method, forward_only=False):
        return flops.required(work.sizes, lengths, method, SIZES.get(method, 0), forward_only)

    def ratio(one, other):
        return (each[one] / each[other]).median()

    rows = []
    for method in METHODS:
        mine = ("ours", method, last)
        same = {method: "the same on all"} if work.blocks else {}
        for other, what in (same | {"full": "full fine-tuning of all"}).items():
            theirs, floor = ("ours", other, every), required(work, method) / required(whole, other)
            rows.append((f"{method}: an epoch, against {what}", ratio(mine, theirs), floor))
            share = peak[mine] / peak[theirs]
            rows.append((f"{method}: peak memory, against {what}", share, None))
        for peer in PEERS:
            if (peer, method, last) in each:
                measured = ratio((peer, method, last), mine)
                rows.append((f"{method}: times as fast as {peer}", measured, None))
    if work.blocks:
        floor = required(work, "lora", True) / required(whole, "lora", True)
        pair = [("ours, evaluation", "lora", blocks) for blocks in (last, every)]
        rows.append(("evaluation, against whole", ratio(*pair), floor))
    return rows


def main():
    """Time everything, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, nargs="*", default=[], help="of the last blocks")
    models = (*data_utils.ENCODERS, "768")  # a width: DistilBERT's shape, random weights
    parser.add_argument("--model", choices=models, default="minilm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="less, into results/benchmarks")
    asked = parser.parse_args()
    folder = Path("results/benchmarks" if asked.quick else "docs/results")
    folder.mkdir(parents=True, exist_ok=True)
    device, base = hardware.choose_device(), asked.model != "minilm"
    where = f"{hardware.describe(device)}, {platform.system()}, torch {torch.__version__}"
    reviews, rounds = (16, 1) if asked.quick else (64 if base else 512, asked.rounds)
    if device.type == "cuda":
        reviews, rounds = 1024, 3
    work = Work(reviews=reviews, shape=asked.model)
    print(f"{where}; {asked.model}, {reviews} reviews, {rounds} rounds")

    timings = time_systems(device, systems(work, asked.blocks), rounds)
    speeds, claims = table(timings, where), []
    for blocks in asked.blocks or [None]:
        own = replace(work, blocks=blocks)
        claims += [(*claim[:1], own.sizes.blocks, *claim[1:]) for claim in checks(timings, own)]
    facts = pd.DataFrame(claims, columns=["what", "blocks", "measured", "floor"])
    tables = {"speed": speeds, "checks": facts}
    name = ("frozen_blocks" if asked.blocks else "training") + ("_base" if base else "")
    for kind, rows in tables.items():
        rows.to_csv(folder / f"{name}_{kind}.csv", index=False, float_format="%.4g")
        print(rows.to_string(index=False, float_format="{:.3g}".format), end="\n\n")
    print("Written:", *sorted(folder.glob(f"{name}_*")), sep="\n  ")


if __name__ == "__main__":
    main()
