"""How soon each method gets near its best: epochs, steps and seconds to a validation accuracy.

    own target       99 % of the run's best validation accuracy: when it is about done
    common target    the smallest of all runs' bests: when it has learnt what every run learns

A target is reached at the first evaluation that is there, so between the one before and that one.
"""

import numpy as np
import pandas as pd
from scipy import stats

from .statistics import LEVEL, student

TARGETS, UNITS = ("own", "common"), ("epochs", "steps", "seconds")
MEASURES = [f"{target}_{unit}" for target in TARGETS for unit in UNITS]


def by_run(history: pd.DataFrame) -> pd.DataFrame:
    """A row for each (method, seed): its targets, and epochs, steps and seconds until each."""
    identity = ["method", "seed"]
    best = history.groupby(identity, sort=False)["validation_accuracy"].max()
    rows = []
    for (method, seed), run in history.groupby(identity, sort=False):
        row = {"method": method, "seed": seed}
        for name, target in (("own", 0.99 * best[method, seed]), ("common", best.min())):
            reached = run[run["validation_accuracy"] >= target]
            first = reached.loc[reached["step"].idxmin()]
            row |= {f"{name}_target": target, f"{name}_epochs": first["epoch"]}
            row |= {f"{name}_steps": first["step"], f"{name}_seconds": first["seconds"]}
        rows.append(row)
    return pd.DataFrame(rows)


def by_method(reached: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds of what `by_run` returns, each with `_low` and `_high` of Student's t.

    NaN stands for the interval of a single seed.
    """
    rows = []
    for method, seeds in reached.groupby("method", sort=False):
        row = {"method": method, "seeds": len(seeds)}
        row |= seeds[["own_target", "common_target", *MEASURES]].mean().to_dict()
        for name in MEASURES:
            row[f"{name}_low"], row[f"{name}_high"] = student(seeds[name].to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def resolution(history: pd.DataFrame) -> int:
    """The most steps between two evaluations of a run, or before its first."""
    steps = history.sort_values("step").groupby(["method", "seed"])["step"]
    return int(steps.diff().fillna(history["step"]).max()) if len(history) else 0


def difference(slow: np.ndarray, fast: np.ndarray, between: float = 0) -> tuple[float, float]:
    """The interval of the difference of two means over seeds: Welch's t (1947).

    Values that are read off every `between` steps may each be too large by that much: the
    interval is that much wider on either side. NaN where a method has a single seed.
    """
    if min(len(slow), len(fast)) < 2:
        return float("nan"), float("nan")
    parts = [(np.var(values, ddof=1) / len(values), len(values) - 1) for values in (slow, fast)]
    variance, half = sum(v for v, _ in parts), between
    if variance > 0:
        freedom = variance**2 / sum(v**2 / degrees for v, degrees in parts)  # Satterthwaite
        half += stats.t.ppf(1 - LEVEL / 2, freedom) * variance**0.5
    middle = np.mean(slow) - np.mean(fast)
    return middle - half, middle + half
