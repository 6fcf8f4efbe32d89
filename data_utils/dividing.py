"""Which of n labelled texts are taken: in proportion to the labels, and whole groups.

Texts are numbers 0 to n - 1 with labels (n,) and, where texts belong together, groups (n,). Every
order depends on a seed alone.
"""

import math
import warnings

import numpy as np
import pandas as pd

from boundary import BadInput, reading

Labels = np.ndarray  # (n,) from 0
Groups = np.ndarray | None  # (n,) from 0


def in_order(labels: Labels, seed, budget: int | None = None) -> np.ndarray:
    """The texts in random order; the first k, for any k, have the labels in proportion.

    The order starts with one text of each label, so that a small k includes rare labels too. Where
    the first `budget` texts are to be divided again, the labels that would have fewer than two
    texts get a second one next.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rank, size = _ranks(labels[order])
    place = (rank + 0.5) / size
    if budget is not None:
        place[(rank == 1) & (size * budget < 2 * len(labels))] = -1
    place[rank == 0] = -2
    return order[np.argsort(place, kind="stable")]


def _ranks(labels):  # per text: how many of its label come before it, and in all
    return pd.Series(labels).groupby(labels).cumcount().to_numpy(), np.bincount(labels)[labels]


def take(labels: Labels, groups: Groups, share: float, seed) -> np.ndarray:
    """Whether each text is taken (n,): the share, rounded up; the texts left have all labels."""
    if groups is not None:
        return _take_groups(labels, groups, share, seed)
    taken = np.zeros(len(labels), bool)
    order = in_order(labels, seed)
    rank, size = _ranks(labels[order])
    order = order[rank < size - 1]  # the last of each label is left
    taken[order[: math.ceil(len(labels) * share - 1e-9)]] = True
    return taken


def _take_groups(labels, groups, share, seed):
    """Take whole groups, large ones first, so that about a share of each label is taken.

    A group is taken if that brings the labels' counts, all together, nearer to the share of the
    groups seen so far. In the end, a small group is taken for each label that has none. A group
    that has all remaining texts of a label is never taken.
    """
    names, groups = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1), int)
    np.add.at(counts, (groups, labels), 1)  # texts of each label in a group
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    taken, left = np.zeros(len(counts), bool), counts.sum(axis=0)
    seen, part = np.zeros((2, counts.shape[1]))  # texts of each label

    def takes(group):
        return not ((left == counts[group]) & (counts[group] > 0)).any()  # else a label is lost

    for group in order:
        rows = counts[group]
        seen += rows
        lacking = share * seen - part
        if rows @ rows < 2 * rows @ lacking and takes(group):  # |lacking - rows| < |lacking|
            taken[group], part, left = True, part + rows, left - rows
    for label in range(counts.shape[1]):
        small = (g for g in order[::-1] if counts[g, label] and takes(g))
        if not part[label] and (group := next(small, None)) is not None:
            taken[group], part, left = True, part + counts[group], left - counts[group]
    return taken[groups]


def sample(labels: Labels, count: int, seeds: tuple) -> tuple[np.ndarray, int]:
    """A sample of `count` texts, and the number of disjoint samples that there can be.

    The texts are cut into that many parts; further seeds have parts of a new cut. `seeds` are the
    split's seed, which decides the cut, and the seed whose part it is. A part has at least two
    texts of each label, unless it is the only one. Groups are not kept whole: a sample of few
    groups would be less varied than the texts are.
    """
    parts = max(1, min(len(labels) // count, np.unique(labels, return_counts=True)[1].min() // 2))
    split_seed, seed = seeds
    order = np.random.default_rng([split_seed, seed // parts]).permutation(len(labels))
    part = np.empty(len(labels), int)  # dealt as cards are, one label after the other
    part[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % parts
    part = np.flatnonzero(part == seed % parts)
    return np.sort(part[in_order(labels[part], seeds, budget=count)[:count]]), parts


def fold_of(labels: Labels, groups: Groups, folds: int, seed: int) -> np.ndarray:
    """The fold (n,) in which each text is tested; stratified, whole groups. Raises `BadInput`."""
    if groups is None and (most := np.bincount(labels).max()) < folds:
        line = f"{folds} folds need {folds} texts of a label, and none has more than {most}"
        raise BadInput(f"{line}; add texts, or give fewer --folds")
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    fold = np.empty(len(labels), int)
    with reading(f"{folds} folds", "give other --folds", "made"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rare labels
        divided = kind(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, test) in enumerate(divided):
            fold[test] = number
    return fold
