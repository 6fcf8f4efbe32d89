"""How much faster is training where the last blocks alone learn, and the others run once?

    python -m benchmarks.frozen_blocks                        docs/results/frozen_blocks*, 50 min
    python -m benchmarks.frozen_blocks --model bundled-base   the encoder of 12 blocks, 20 min
    python -m benchmarks.frozen_blocks --quick                a glance, into results/benchmarks

As in benchmarks/training_speed.py: every system takes its turn in each of five rounds (whole
experiments, of three methods and three seeds, in one); the reference has rounds of its own, with
LoRA in the last blocks. Medians of the ratios within rounds, of seconds a review. The peers adapt
the same last blocks, and run all. The floor of a ratio is that of the FLOPs required. AdapterHub's
`adapters` takes part where ADAPTERS_PYTHON names an interpreter that has it
(benchmarks/adapterhub.py).
"""

import argparse
import os
from dataclasses import replace

import pandas as pd
import torch

import data_utils
import hardware
from benchmarks import flops
from benchmarks.training_speed import SIZES, figure, machine, place, ratio, table, time_systems
from benchmarks.work import Work

METHODS = ("lora", "adapter")
OURS, EVALUATION, EXPERIMENT = "ours", "ours, evaluation", "ours, experiment"
PEERS = (("reference", "lora"), ("peft tuned", "lora"), ("adapterhub", "adapter"))
ONCE = "ours, shared pass"


def named(system: str, blocks: int | None) -> str:
    """What tables call a system whose last blocks learn."""
    return system if blocks is None else f"{system}, last {blocks}"


def systems(work: Work, depths: tuple[int, ...], peers: bool) -> dict:
    """What is timed, by its name and method, in the order of its turns."""
    rows = [(OURS, method, None) for method in ("full", *METHODS)] + [(EVALUATION, "lora", None)]
    for blocks in depths:
        rows += [(OURS, method, blocks) for method in METHODS]
        rows += [(system, "lora", blocks) for system in (EVALUATION, ONCE)]
        for peer, method in PEERS[1:] if peers else ():
            if peer != "adapterhub" or os.environ.get("ADAPTERS_PYTHON"):
                rows.append((peer, method, blocks))
    return {
        (named(system, blocks), method): (
            system,
            replace(work, method=method, size=SIZES.get(method, 0), blocks=blocks),
        )
        for system, method, blocks in rows
    }


def beside_the_reference(work: Work, depths: tuple[int, ...]) -> dict:
    """The reference, which takes 10 GiB, and what is compared with it.

    It pads everything to 512 tokens, so that a few reviews are as good as many.
    """
    few = replace(work, reviews=min(32, work.reviews))
    mine = {
        (named(OURS, blocks), "lora"): (OURS, replace(work, blocks=blocks)) for blocks in depths
    }
    return {("reference", "lora"): ("reference", few)} | mine


def least(work: Work, method: str, other: str, forward_only: bool = False) -> float:
    """FLOPs that a method requires in the last blocks, over another's in all of them."""
    lengths, whole = work.split().lengths, replace(work, blocks=None)
    required = [
        flops.required(sizes, lengths, name, SIZES.get(name, 0), forward_only)
        for sizes, name in ((work.sizes, method), (whole.sizes, other))
    ]
    return required[0] / required[1]


def checks(timings: pd.DataFrame, work: Work) -> dict[str, tuple[float, float | None]]:
    """What is claimed of training `work.blocks` blocks: the measured value, and its floor."""
    blocks, found = work.blocks, {}
    names = set(zip(timings["system"], timings["method"], strict=True))
    for method in METHODS:
        for other in (method, "full"):
            against = "full fine-tuning of all" if other == "full" else "the same on all"
            measured = ratio(timings, (named(OURS, blocks), method), (OURS, other))
            floor = least(work, method, other)
            found[f"{method}: an epoch, against {against}"] = measured, floor
    measured = ratio(timings, (named(EVALUATION, blocks), "lora"), (EVALUATION, "lora"))
    found["evaluation, against whole"] = measured, least(work, "lora", "lora", forward_only=True)
    for peer, method in PEERS:
        name = peer if peer == "reference" else named(peer, blocks)
        if (name, method) in names:
            measured = ratio(timings, (name, method), (named(OURS, blocks), method))
            found[f"{method}: times as fast as {peer}"] = measured, None
    if (EXPERIMENT, "head") in names:
        measured = ratio(timings, (named(EXPERIMENT, blocks), "head"), (EXPERIMENT, "head"))
        found["a whole experiment, against all blocks"] = measured, None
    return found | quantities(timings, work)


def quantities(timings: pd.DataFrame, work: Work) -> dict[str, tuple[float, None]]:
    """Waiting, memory, the shared pass and the size of the states."""
    rows = timings.assign(
        share=timings["waited"] / timings["seconds"], rate=timings["reviews"] / timings["seconds"]
    ).groupby(["system", "method"])
    median, highest = rows[["share", "rate", "tokens"]].median(), rows["memory"].max()
    lora, once = (named(OURS, work.blocks), "lora"), (named(ONCE, work.blocks), "lora")
    found = {"waiting for stored states, share of an epoch": median.loc[lora, "share"]}
    for method in METHODS:
        peaks = [highest[named(OURS, blocks), method] for blocks in (work.blocks, None)]
        found[f"{method}: peak memory above the resting model, against all"] = peaks[0] / peaks[1]
    found["the shared pass, reviews a second"] = median.loc[once, "rate"]
    for dtype in (torch.bfloat16, torch.float32):
        mib = median.loc[lora, "tokens"] * work.sizes.width * dtype.itemsize / 2**20
        found[f"states of {work.reviews} reviews in {str(dtype)[6:]}, MiB"] = mib
    return {what: (value, None) for what, value in found.items()}


def experiments(depths: tuple[int, ...], reviews: int) -> dict:
    """Whole experiments, of all blocks and of the last."""
    work = Work(method="head", reviews=reviews)
    return {
        (named(EXPERIMENT, blocks), "head"): (EXPERIMENT, replace(work, blocks=blocks))
        for blocks in (None, *depths)
    }


def table_of_checks(timings: pd.DataFrame, work: Work, depths: tuple[int, ...]) -> pd.DataFrame:
    """A row for each claim and depth, with its floor where there is one."""
    total, rows = work.sizes.blocks, []
    for blocks in depths:
        found = checks(timings, replace(work, blocks=blocks))
        depth = f"last {blocks} of {total}"
        rows += [(what, depth, value, floor) for what, (value, floor) in found.items()]
    return pd.DataFrame(rows, columns=["what", "blocks", "measured", "floor"])


def print_tables(speeds: pd.DataFrame, facts: pd.DataFrame) -> None:
    """What docs/performance.md shows."""
    print(speeds.drop(columns="device").to_string(index=False, float_format="{:.3g}".format))
    depths = facts["blocks"].unique()
    print("| check |", " | ".join(f"{depth} | floor" for depth in depths), "|")
    for what, rows in facts.groupby("what", sort=False):
        numbers = rows.set_index("blocks").reindex(depths)[["measured", "floor"]].to_numpy()
        cells = ["" if pd.isna(value) else f"{value:.3g}" for value in numbers.flatten()]
        print(f"| {what} | {' | '.join(cells)} |")


def main():
    """Time everything, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less, into results/benchmarks")
    choices = data_utils.ENCODERS
    parser.add_argument("--model", choices=choices, default=data_utils.BUNDLED)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    folder, device = place(asked.quick), hardware.choose_device()
    where, base = machine(device), asked.model == data_utils.BUNDLED_BASE
    depths, reviews, few = ((3,), 64, 0) if base else ((3, 2), 512, 96)
    rounds, name = asked.rounds, "frozen_blocks_base" if base else "frozen_blocks"
    if asked.quick:
        reviews, few, rounds = 16, 0 if base else 16, 1
    work = Work(size=SIZES["lora"], reviews=reviews, shape=asked.model)
    print(f"{where}; {data_utils.ENCODERS[asked.model]}, {reviews} reviews, {rounds} rounds")

    timings = time_systems(device, systems(work, depths, peers=not base), range(rounds))
    if not base:
        others = range(rounds, 2 * rounds)
        timings += time_systems(device, beside_the_reference(work, depths), others)
    speeds = table(pd.DataFrame(timings), where)
    once = speeds["system"].str.startswith(ONCE)
    of_training = ["ratio_to_reference", "model_flops_utilisation"]
    speeds.loc[once, of_training] = float("nan")
    if few:
        timings += time_systems(device, experiments(depths, few), range(1))
    facts = table_of_checks(pd.DataFrame(timings), work, depths)
    facts.to_csv(folder / f"{name}.csv", index=False, float_format="%.4g")
    speeds.to_csv(folder / f"{name}_speed.csv", index=False, float_format="%.4g")
    shown = speeds[~speeds["system"].str.contains("evaluation|shared")]
    figure(shown, "How fast do the last blocks train?", folder / f"{name}.png")
    print_tables(speeds, facts)
    written = [folder / f"{name}{end}" for end in (".csv", "_speed.csv", ".png")]
    print("Written:", *written, sep="\n  ")


if __name__ == "__main__":
    main()
