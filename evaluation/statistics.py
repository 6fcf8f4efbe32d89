"""Uncertainty of an experiment's numbers: intervals, and paired comparisons.

A metric is a mean over texts (metrics.py), and the difference of two methods is the mean of the
texts' differences. Two things vary when a comparison is made again: the test texts, and the seeds.
With D the difference over S seeds and the same n texts,

    error of D = error from seeds + error from texts

Seeds: for a seed, both methods of a pair have the same training texts in the same order. So D is a
mean of S independent differences, one a seed, and its error is sqrt(V) t: V is the variance of
these differences / S, and t has S - 1 degrees of freedom. A method with one run is taken as that
one model.

Texts: a mean over n texts is nearly normal. Its variance is the variance of the texts' differences
(their means over seeds) / n. Where texts are in groups (of a film, a patient), leaving out each
group in turn gives the variance (the jackknife: Cochran 1977, chapter 6). This variance has
sum(sizes)^2 / sum(sizes^2) - 1 degrees of freedom: for groups of equal size, their number less 1.
It also contains the interaction of seeds and texts, MS(seeds x texts) / (n S). The error from seeds
counts this part already, so it is subtracted (the crossed analysis of variance). Two texts are
added, one that only the first method gets right and one that only the second gets right (Bonett and
Price 2012): methods that agree on all n texts may still differ on others. For macro-F1 such texts
are also added within each label, to the variance alone. The score of a single method is its
difference from 0, with the same errors.

With folds, each text is tested once, by the model of its fold: D is one mean over all texts, and
there are no seeds. D is nearly normal about the mean test error of these models, by the central
limit theorem for cross-validation (Bayle et al. 2020, arXiv:2007.12671); its variance is their
all-pairs estimate. `docs/statistics.md` says how often the intervals hold the truth.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

LEVEL = 0.05  # of every test; intervals hold the truth with probability 1 - LEVEL
MARGIN = 0.01  # smaller differences are equivalent, unless an experiment says otherwise
# Intervals with folds are wider by this factor than the central limit theorem says, which is for
# large samples: with 800 texts, errors of accuracy were up to 1.28 times as large as it says
# (docs/results/coverage.csv).
FOLDS_FACTOR = 1.2
COLUMNS = ["method_a", "method_b", "difference", "low", "high", "p", "p_holm"]
COLUMNS += ["p_equivalent", "test", "verdict"]
POINTS = 999  # of the numerical integral over the errors of texts


class Scores(NamedTuple):
    """A metric's values for all test texts, by method: their mean is the metric, from 0 to 1.

    `values[method]` is (S, n), a row for each of its `seeds`. With folds it is (1, n), and NaN for
    the texts of folds that have not been tested. `groups` (n,) are numbers from 0, the same for all
    texts of a group; None: all texts are independent. `unseen[method]` (2, C), for macro-F1, says
    by how much one more text of each label would move the metric: a right text, a missed text.
    """

    values: dict[str, np.ndarray]
    seeds: dict[str, list[int]]
    groups: np.ndarray | None = None
    is_folds: bool = False
    unseen: Mapping[str, np.ndarray] = MappingProxyType({})


def by_method(scores: Scores, fixed: Collection[str] = ()) -> pd.DataFrame:
    """A row a method: seeds, mean, low, high, and the standard deviation over seeds.

    All intervals cover the same variation: other seeds and other texts, where some methods have
    several seeds. One run cannot show how seeds vary, so a method with one run then has no
    interval, unless it is `fixed`: no seed changes it.
    """
    rows, most_seeds = [], max(map(len, scores.values.values()))
    for method, values in scores.values.items():
        row = {"method": method, "seeds": len(scores.seeds[method])}
        unseen = 0.0
        if method in scores.unseen:  # half a text each; a missed one counts against two labels
            right, missed = scores.unseen[method]
            unseen = (right**2 + 2 * missed**2).sum() / 2
        difference = _estimate([_sample(scores, values)._replace(unseen=unseen)])
        if len(values) == 1 < most_seeds and method not in fixed:
            difference |= {"low": math.nan, "high": math.nan}
        row |= {"mean": difference["difference"]}
        row |= {end: np.clip(difference[end], 0.0, 1.0) for end in ("low", "high")}
        rows.append(row | {"sd": values.mean(axis=1).std(ddof=1) if len(values) > 1 else math.nan})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------- pairs


def all_pairs(scores: Scores) -> list[tuple[str, str]]:
    """All pairs of methods; in each pair the better method is first."""
    means = {method: np.nanmean(values) for method, values in scores.values.items()}
    return [(b, a) if means[a] < means[b] else (a, b) for a, b in combinations(means, 2)]


def compare(
    tasks: Sequence[Scores],
    pairs: Sequence[tuple[str, str]] | None = None,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """A row for the difference a - b of each pair (of all pairs, where none are given).

    With several tasks the difference is the mean over them. Every task counts alike. Their texts
    and seeds are independent, so the errors' variances add up. `difference`, `low` and `high` are
    in the metric's unit. `p_equivalent` is the p-value of two one-sided tests (Schuirmann 1987)
    that the difference is smaller than `margin`. `p_holm` and the verdicts, of difference and of
    equivalence, are corrected over these pairs (Holm 1979). A pair is left out where both methods
    have several seeds and fewer than two in common, or where no text is tested by both. Raises
    `ValueError` where a method's mean is not from -1 to 1, or a seed lacks a text's value.
    """
    rows = []
    every = [values for scores in tasks for values in scores.values.values()]
    if any(abs(np.nansum(values)) > (1 + 1e-9) * np.isfinite(values).sum() for values in every):
        raise ValueError("expected values whose mean is from 0 to 1, for each method")
    for a, b in all_pairs(tasks[0]) if pairs is None else pairs:
        samples = [_paired(scores, a, b) for scores in tasks]
        if all(samples):
            row = _estimate(samples, margin) | {"method_a": a, "method_b": b}
            rows.append(row | {"test": _test(samples)})
    return with_verdicts(pd.DataFrame(rows, columns=COLUMNS))


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with Holm's correction over its rows, and a verdict for each pair."""
    corrected, equivalent = (holm(table[p].to_numpy(float)) for p in ("p", "p_equivalent"))
    conditions = [corrected < LEVEL, equivalent < LEVEL]
    verdicts = np.select(conditions, ["significant", "equivalent"], "not significant")
    return table.assign(p_holm=corrected, verdict=verdicts)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, the smallest most (Holm 1979)."""
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return raised[np.argsort(order)]


# ---------------------------------------------------------------------------- one estimate


class _Sample(NamedTuple):
    """Values (S, n) whose mean is an estimate."""

    values: np.ndarray
    groups: np.ndarray  # (n,) numbers from 0; without groups the texts' places
    extra: tuple[float, float]  # values of the two texts that are added
    factor: float  # by which errors of texts are larger than computed
    design: str  # in words
    unseen: float = 0.0  # variance from unseen texts of rare labels


def _sample(scores, values):
    """The sample for a single method's score: a right text and a wrong text are added."""
    texts = np.isfinite(values[0])
    groups = np.arange(len(texts)) if scores.groups is None else scores.groups
    groups = np.unique(groups[texts], return_inverse=True)[1]
    factor, values = FOLDS_FACTOR if scores.is_folds else 1.0, values[:, texts]
    if not np.isfinite(values).all():
        raise ValueError("expected a value of every text for each seed")
    return _Sample(values, groups, (1.0, 0.0), factor, "")


def _paired(scores, a, b):
    """The sample of two methods' differences; None where they share too few seeds or no text."""
    values = [scores.values[method].astype(float) for method in (a, b)]
    kinds = "texts" if scores.groups is None else "groups of texts"
    shared_seeds = [seed for seed in scores.seeds[a] if seed in scores.seeds[b]]
    if scores.is_folds:
        design = f"{kinds}, each tested once"
    elif min(map(len, values)) == 1:  # compared with every seed of the other
        seeds = max(map(len, values))
        design = f"{kinds} and {seeds} seeds, against one run" if seeds > 1 else f"{kinds}, one run"
    elif len(shared_seeds) > 1:
        rows = [[scores.seeds[method].index(seed) for seed in shared_seeds] for method in (a, b)]
        values = [of_method[index] for of_method, index in zip(values, rows, strict=True)]
        design = f"{kinds} and {len(shared_seeds)} seeds, paired by seed"
    else:
        return None
    sample, unseen = _sample(scores, values[0] - values[1]), 0.0
    if scores.unseen:  # a quarter of a text that a alone gets right, and of one that b alone does
        (a_right, a_missed), (b_right, b_missed) = scores.unseen[a], scores.unseen[b]
        unseen = ((a_right + b_missed) ** 2 + (b_right + a_missed) ** 2).sum() / 4
    sample = sample._replace(extra=(1.0, -1.0), design=design, unseen=unseen)
    return sample if sample.values.size else None


def _test(samples):
    designs = dict.fromkeys(sample.design for sample in samples)
    plain = dict.fromkeys(design.removeprefix("groups of ") for design in designs)
    if len(plain) < len(designs):  # some tasks have groups
        designs = [design.replace("texts", "texts or groups of texts", 1) for design in plain]
    return "paired by text; of other " + " or ".join(designs)


def _estimate(samples, margin=MARGIN):
    """The mean over samples (tasks), its interval, and p of difference and of equivalence."""
    middles, texts, seeds = zip(*map(_errors, samples), strict=True)
    centre, errors = np.mean(middles), _Errors(*_of_mean(texts), *_of_mean(seeds))
    half = errors.half_width()
    return {
        "difference": np.mean([sample.values.mean() for sample in samples]),
        "low": np.clip(centre - half, -1.0, 1.0),
        "high": np.clip(centre + half, -1.0, 1.0),
        "p": min(1.0, 2 * errors.beyond(abs(centre))),
        "p_equivalent": errors.beyond(margin - abs(centre)),
    }


class _Errors(NamedTuple):
    """The errors that an estimate could have: the error from texts + the error from seeds.

    Both follow Student's t, symmetric about 0; with many texts the first is nearly normal.
    """

    texts: float  # variance
    of_texts: float  # degrees of freedom
    seeds: float  # variance; 0: no seed makes a difference
    of_seeds: float

    def beyond(self, x: float) -> float:
        """The share of errors that are `x` or more."""
        if not self.seeds:
            return stats.t.sf(x / self.texts**0.5, self.of_texts)
        quantiles, weights = _quantiles(self.of_texts)
        of_texts = self.texts**0.5 * quantiles
        return stats.t.sf((x - of_texts) / self.seeds**0.5, self.of_seeds) @ weights

    def half_width(self) -> float:
        """The x such that all errors but a share of `LEVEL` lie between -x and x."""
        highest = sum(
            v**0.5 * stats.t.isf(LEVEL / 4, degrees) for v, degrees in (self[:2], self[2:]) if v > 0
        )
        return optimize.brentq(lambda x: self.beyond(x) - LEVEL / 2, 0, highest, xtol=1e-9)


@lru_cache
def _quantiles(degrees):
    """Quantiles of Student's t, and their weights: `POINTS` of them, dense at both ends."""
    shares = special.expit(np.linspace(-25, 25, POINTS))
    weights = shares * (1 - shares)
    return stats.t.isf(shares, degrees), weights / weights.sum()


def _of_mean(variances):
    """The variance of a mean of independent estimates, its degrees of freedom (Satterthwaite 1946).

    `variances` holds (variance, degrees of freedom) of each estimate.
    """
    variances = [(v / len(variances) ** 2, degrees) for v, degrees in variances]
    total = sum(v for v, _ in variances)
    if not total:
        return 0.0, math.inf
    return total, total**2 / sum(v**2 / degrees for v, degrees in variances)


def _errors(sample):
    """The interval's middle, and (variance, degrees of freedom) from texts and from seeds."""
    values = np.array([np.bincount(sample.groups, row) for row in sample.values])  # (S, G)
    sizes, seeds = np.bincount(sample.groups), len(values)  # (G,)
    added = _size_of_added(values.mean(axis=0), sample.values.mean(axis=0), sizes)
    sums = np.append(values.mean(axis=0), added * np.array(sample.extra))
    numbers = np.append(sizes, [added, added])
    middle, count = sums.sum() / numbers.sum(), len(sums)
    rest = (sums - middle * numbers) / (numbers.sum() - numbers)  # change if a group is left out
    of_texts = (rest**2).sum() * (count - 1) / count
    means = values.sum(axis=1) / sizes.sum()  # (S,)
    of_seeds = means.var(ddof=1) / seeds if seeds > 1 else 0.0
    if of_seeds:  # else no seed makes a difference
        rest = values - values.mean(axis=0) - np.outer(means - means.mean(), sizes)  # (S, G)
        mean_square = (rest**2).sum() / ((seeds - 1) * max(1, len(sizes) - 1))
        interaction = mean_square * len(sizes) / sizes.sum() ** 2 / seeds
        of_texts = max(0.0, of_texts - interaction)
    degrees = max(1, sizes.sum() ** 2 / (sizes**2).sum() - 1)  # without the two added texts
    of_texts = (of_texts + sample.unseen) * sample.factor**2
    return middle, (of_texts, degrees), (of_seeds, max(1, seeds - 1))


def _size_of_added(sums, texts, sizes):
    """How many texts of a group say as much as one: 1, or more where a group's texts are alike.

    The design effect (Kish 1965): the variance of the mean over that of independent texts. Ten
    groups of copies then say no more than ten texts.
    """
    alike, middle = (sizes**2).sum() / sizes.sum(), texts.mean()  # alike: if they are copies
    alone = ((texts - middle) ** 2).sum()
    grouped = ((sums - middle * sizes) ** 2).sum() * len(sizes) / max(1, len(sizes) - 1)
    return np.clip(grouped / alone, 1.0, alike) if alone and len(sizes) < len(texts) else alike
