"""How many blocks learn, and the pass through the frozen ones that runs share.

What frozen blocks make of the train, validation and test reviews is computed once, and used by
every run with the same frozen blocks. Its seconds are in no run's training seconds, and are added
wherever a total is shown: in full to each run, which is what that run alone would have taken.
"""

import pandas as pd

from .markdown import count, escape, size
from .results import Results

ALONE, BOTH = "training alone (s)", "training and shared pass (s)"  # axes
WHOLE = "each total holds the whole shared pass, computed once for all runs with the same frozen"
WHOLE += " blocks"


def shared_seconds(runs: pd.DataFrame) -> pd.Series:
    """The seconds of the shared pass that each run used; 0 where there was none."""
    recorded = runs["shared_seconds"] if "shared_seconds" in runs else pd.Series(0.0, runs.index)
    return recorded.fillna(0.0)


def is_shared(results: Results) -> bool:
    """Whether any run used a shared pass: pages and figures without one do not speak of it."""
    return bool(shared_seconds(results.runs).any())


def total_seconds(runs: pd.DataFrame) -> pd.Series:
    """Training and the shared pass."""
    return runs["training_seconds"] + shared_seconds(runs)


def learning_blocks(runs: pd.DataFrame) -> pd.Series:
    """How many of the last blocks learn in each run; NaN where the files do not tell."""
    if not {"blocks", "frozen_blocks"} <= set(runs):
        return pd.Series(float("nan"), runs.index)
    return (runs["frozen_blocks"] + runs["blocks"]).max() - runs["frozen_blocks"]


def passes(results: Results) -> dict[int, pd.DataFrame]:
    """The runs that have frozen blocks, by the number of these."""
    runs = results.runs
    if "frozen_blocks" not in runs:
        return {}
    runs = runs.assign(learn=learning_blocks(runs), shared=shared_seconds(runs))
    return {int(n): part for n, part in runs[runs["frozen_blocks"] > 0].groupby("frozen_blocks")}


def took(part: pd.DataFrame) -> str:
    """The seconds of one of the `passes`; from and to where it was computed more than once."""
    ends = [size(part["shared"].min()), size(part["shared"].max())]
    return " to ".join(dict.fromkeys(ends)) + " s"


def sentences(results: Results) -> list[str]:
    """Of each depth: how many blocks learn, in which methods, and what the frozen ones took."""
    return [_sentence(results, frozen, part) for frozen, part in passes(results).items()]


def _sentence(results, frozen, part):
    methods = escape(results.labels(dict.fromkeys(part["method"]), most=3))
    learn = part["learn"].iloc[0]
    if pd.isna(learn):
        what = f"In the first {count(frozen, 'block')} nothing learns ({methods}); these"
    elif learn == 1:
        what = f"The last of {frozen + 1} blocks learns ({methods}); the others"
    elif learn:
        what = f"The last {learn:.0f} of {frozen + learn:.0f} blocks learn ({methods}); the others"
    else:
        what = f"None of the {count(frozen, 'block')} learns ({methods}); they"
    if not part["shared"].any():
        return f"{what} ran anew for each batch."
    return f"{what} ran once for each review: {took(part)}, shared by {count(len(part), 'run')}."
