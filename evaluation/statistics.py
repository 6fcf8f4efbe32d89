"""Uncertainty of an experiment's numbers: intervals, paired comparisons, calibration.

Two things vary when a comparison is made again: the test reviews, and the seeds. With D the
difference of two methods' accuracies, over S seeds and the same n reviews,

    D - truth = [D - D with all seeds there could be] + [that - that on all reviews there could be]

The first part, given the reviews, is a mean over independent seeds. Both methods of a pair have the
same training labels and their order for a seed, so it is a mean of S differences, one a seed:
Student's t with S - 1 degrees of freedom. A method with one run is taken as that one model. Where
no two seeds are the same, it is a difference of two means: Welch's t. The second part is a mean
over n reviews: a bootstrap that draws reviews, each with its right and wrong of both methods. Its
variance holds, besides, the share of the seeds by reviews interaction that the first part counts
already, MS(seeds x reviews) / (n S), so it is shrunk by that much (Davison and Hinkley 1997,
section 3.8; without, Owen 2007: the pigeonhole bootstrap counts the interaction up to three times).
Where reviews are in groups (of a film, a patient), whole groups are drawn in place of reviews.
Interval and p come from the draws of reviews and t's distribution: 0 is outside where p < 0.05. But
of two single runs without groups p is McNemar's, exact, which may be a little above it.
`docs/statistics.md` says how well it holds its claim, by simulation.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats

LEVEL = 0.05  # of every test; intervals hold the truth with 1 - LEVEL
MARGIN = 0.01  # smaller differences are equivalent, unless an experiment says otherwise
RESAMPLES = 4_999
BINS = 15  # of confidence, for the calibration error
COLUMNS = ["method_a", "method_b", "difference", "low", "high", "p", "p_holm"]
COLUMNS += ["p_equivalent", "test", "verdict"]


def wilson(right, n, confidence: float = 1 - LEVEL) -> tuple:
    """Wilson's interval (1927) of the accuracy of a trained model, `right` of `n` reviews.

    `right` may be an array: an interval for each.
    """
    z, share = stats.norm.ppf((1 + confidence) / 2), right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def independent(right: np.ndarray, groups: np.ndarray | None) -> float:
    """As many independent reviews would say as much of the accuracy: n over the design effect.

    From which of the reviews are right (n,) and their groups, numbered from 0. The effect (Kish
    1965) is the variance of the share with whole groups drawn, over that with single reviews drawn;
    at least 1. A right and a wrong group of mean size are added: all right, they may yet be alike.
    """
    if groups is None:
        return len(right)
    sizes, sums = np.bincount(groups), np.bincount(groups, right)
    sizes, sums = np.append(sizes, [sizes.mean()] * 2), np.append(sums, [sizes.mean(), 0])
    n, count, share = sizes.sum(), len(sizes), sums.sum() / sizes.sum()
    of_groups = ((sums - share * sizes) ** 2).sum() * count / (count - 1)
    of_reviews = n * share * (1 - share) * n / (n - 1)
    return len(right) / max(1.0, of_groups / of_reviews)


def student(values: np.ndarray) -> tuple[float, float]:
    """Student's t interval of the mean of independent values, one a seed."""
    return stats.t.interval(1 - LEVEL, len(values) - 1, np.mean(values), stats.sem(values))


def by_method(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs, a row a method: mean test accuracy over seeds, sd, and an interval.

    Where seeds differ, Student's t interval says only how seeds vary, on these reviews; else
    Wilson's says only how reviews vary, for this seed. The two do not compare. `reviews`, of each
    run, is the number of `independent` ones.
    """
    rows = []
    for method, own in runs.groupby("method", sort=False):
        accuracies, n = own["test_accuracy"], own["reviews"].mean()
        seeds, mean = len(accuracies), accuracies.mean()
        row = {"method": method, "seeds": seeds, "accuracy": mean, "sd": accuracies.std()}
        if accuracies.nunique() > 1:
            low, high = student(accuracies.to_numpy())
            interval = max(low, 0.0), min(high, 1.0), f"t over {seeds} seeds"
        else:
            kind = "Wilson, all seeds equal" if seeds > 1 else "Wilson, seeds not varied"
            interval = *wilson(mean * n, n), kind
        rows.append(row | dict(zip(("low", "high", "interval"), interval, strict=True)))
    return pd.DataFrame(rows)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017): |accuracy - confidence|, over 15 equal bins.

    From labels (n,) and probabilities (n, C); each bin weighs as many reviews as it holds.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(abs(np.bincount(bins, right - confidence)).sum() / len(labels))


# ---------------------------------------------------------------------------- pairs


def all_pairs(right: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """Every two methods, the better one first."""
    pairs = combinations(right, 2)
    return [(b, a) if right[a].mean() < right[b].mean() else (a, b) for a, b in pairs]


def compare(
    right: dict[str, np.ndarray],
    pairs: Sequence[tuple[str, str]] | None = None,
    seeds: dict[str, list[int]] | None = None,
    margin: float = MARGIN,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """The differences a - b of the pairs (all, where none are given), a row each.

    `right` holds a bool array (S, n) a method, a row for each of its `seeds` (0, 1, ...).
    `groups` (n,) are numbers from 0, the same for the reviews of one group; None: all are
    independent. `difference`, `low` and `high` are shares. With one seed each all speak of these
    two trained models alone and, without groups, p is McNemar's exact one (1947). `p_equivalent` is
    that of two one-sided tests (Schuirmann 1987) that the difference is smaller than `margin`.
    `p_holm` is Holm's (1979), over these pairs, and so are the verdicts, of difference and of
    equivalence.
    """
    seeds = seeds or {method: list(range(len(rows))) for method, rows in right.items()}
    pairs = all_pairs(right) if pairs is None else pairs
    return compare_over_tasks([(right, seeds, groups)], pairs, margin)


def compare_over_tasks(
    tasks: Sequence[tuple], pairs: Sequence[tuple[str, str]], margin: float = MARGIN
) -> pd.DataFrame:
    """The same of the mean over tasks, each with its `right`, `seeds` and `groups`.

    Every task counts alike. Their reviews and draws are independent, so errors add up in squares;
    the tasks are these, and no sample of others.
    """
    rows = [_compare_two(pair, tasks, margin) for pair in pairs]
    return with_verdicts(pd.DataFrame(rows, columns=COLUMNS))


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with Holm's correction over its rows, and what it says of each pair."""
    corrected, equivalent = (holm(table[p].to_numpy(float)) for p in ("p", "p_equivalent"))
    found = [corrected < LEVEL, equivalent < LEVEL]
    verdicts = np.select(found, ["different", "equivalent"], "undecided")
    return table.assign(p_holm=corrected, verdict=verdicts)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, the smallest most (Holm 1979)."""
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return raised[np.argsort(order)]


def _compare_two(pair, tasks, margin):
    each = [
        _parts(*(right[method] for method in pair), *(seeds[method] for method in pair))
        for right, seeds, _ in tasks
    ]
    difference = np.mean([sum(part.mean() for part in parts) for parts in each])
    groups = [of for _, _, of in tasks]
    errors = _errors(each, groups)
    half = errors.half_width()
    p = min(1.0, errors.at_most(-abs(difference)) + errors.at_least(abs(difference)))
    equal = max(errors.at_most(difference - margin), errors.at_least(difference + margin))
    a, b = ([len(right[method]) for right, _, _ in tasks] for method in pair)
    kinds = ["reviews"] * any(of is None for of in groups)
    kinds += ["groups"] * any(of is not None for of in groups)
    drawn = f"bootstrap over {' and '.join(kinds)}"
    test = f"{drawn}, Welch's t over seeds"
    if max(a + b) == len(tasks) == 1 and groups[0] is None:
        p, test = _mcnemar(*(tasks[0][0][method][0] for method in pair)), "exact McNemar"
    elif max(a + b) == 1:
        test = f"{drawn}, one seed each"
    elif {len(parts) for parts in each} == {1}:
        how = "paired by seed" if min(a + b) > 1 else "against one run"
        counts = sorted({len(parts[0]) for parts in each})
        seeds = " to ".join(map(str, counts[:1] + counts[1:][-1:]))
        test = f"{drawn}, t over {seeds} seeds, {how}"
    return dict(zip(("method_a", "method_b"), pair, strict=True)) | {
        "difference": difference,
        "low": max(difference - half, -1.0),
        "high": min(difference + half, 1.0),
        "p": p,
        "p_equivalent": equal,
        "test": test,
    }


def _parts(a, b, seeds_a, seeds_b):
    """Arrays (S, n) whose means add up to the difference, each with seeds of its own."""
    a, b = a.astype(int), b.astype(int)
    if min(len(a), len(b)) == 1:  # the same for every seed of the other
        return [a - b]
    both = sorted(set(seeds_a) & set(seeds_b))
    if len(both) > 1:
        return [a[[seeds_a.index(s) for s in both]] - b[[seeds_b.index(s) for s in both]]]
    return [a, -b]


def _mcnemar(a, b):
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0


class _Errors(NamedTuple):
    """The errors that a difference could have: those of `reviews`, drawn, + `scale` * t."""

    reviews: np.ndarray
    scale: float  # 0: no seed makes a difference
    freedom: float

    def at_most(self, x: float) -> float:
        """The share of all errors that are `x` or less."""
        if self.scale:
            errors, counts = np.unique(self.reviews, return_counts=True)  # a third of the time
            shares = stats.t.cdf((x - errors) / self.scale, self.freedom)
            return np.average(shares, weights=counts)
        return (1 + (self.reviews <= x).sum()) / (1 + len(self.reviews))

    def at_least(self, x: float) -> float:
        """The share of all errors that are `x` or more."""
        return self._replace(reviews=-self.reviews).at_most(-x)

    def half_width(self) -> float:
        """As far from 0, on either side, lie all errors but a share of `LEVEL`."""
        if not self.scale:
            return np.quantile(abs(self.reviews), 1 - LEVEL)
        highest = abs(self.reviews).max() + self.scale * stats.t.isf(LEVEL / 4, self.freedom)
        return optimize.brentq(
            lambda x: self.at_most(-x) + self.at_least(x) - LEVEL, 0, highest, xtol=1e-9
        )


def _errors(tasks, groups=None):
    """Those of the mean over tasks of the sum of the means of each one's parts (S, n), whole.

    What is drawn are groups of reviews, or single ones. Two reviews are added, one that the first
    method alone gets right and one that the second alone does (Bonett and Price 2012): methods that
    agree on all n reviews may still differ on others.
    """
    rng = np.random.default_rng(0)  # anew for each pair: no other method changes its numbers
    errors, seeds = np.zeros(RESAMPLES), []
    for parts, of in zip(tasks, groups or [None] * len(tasks), strict=True):
        of = np.arange(parts[0].shape[1]) if of is None else of
        parts = [np.array([np.bincount(of, row) for row in part]) for part in parts]  # (S, G)
        sizes, unit = np.bincount(of), math.prod(map(len, parts))
        differences = sum(part.sum(axis=0) * (unit // len(part)) for part in parts)  # (G,), whole
        both = np.append(differences, [unit, -unit]), np.append(sizes, [1, 1])
        kinds, counts = np.unique(both, axis=1, return_counts=True)  # (2, K) and (K,)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), RESAMPLES)  # (RESAMPLES, K)
        (sums, reviews), (whole, all_reviews) = kinds @ drawn.T, kinds @ counts
        own = (sums / reviews - whole / all_reviews) / unit
        found = [_seed_part(part, sizes) for part in parts if len(part) > 1]
        if any(variance for variance, _, _ in found):  # else no seed makes a difference
            own *= np.sqrt(max(0.0, 1 - sum(part[1] for part in found) / own.var()))
            seeds += [(variance / len(tasks) ** 2, degrees) for variance, _, degrees in found]
        errors += own / len(tasks)
    variance = sum(part[0] for part in seeds)
    if variance == 0:
        return _Errors(errors, 0.0, math.inf)
    freedom = variance**2 / sum(v**2 / degrees for v, degrees in seeds)  # Satterthwaite
    return _Errors(errors, np.sqrt(variance), freedom)


def _seed_part(values, sizes):
    """Of a mean over S seeds: its variance, the interaction's share of it, degrees of freedom.

    From the sums of each group (S, G) and its number of reviews (G,).
    """
    (seeds, count), n = values.shape, sizes.sum()
    means = values.sum(axis=1) / n
    rest = values - values.mean(axis=0) - np.outer(means - means.mean(), sizes)  # (S, G)
    interaction = (rest**2).sum() / ((seeds - 1) * max(1, count - 1))  # mean square
    return means.var(ddof=1) / seeds, interaction * count / n**2 / seeds, seeds - 1
