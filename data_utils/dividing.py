"""Which of n labelled texts are taken: in proportion to the labels, and whole groups.

Texts are numbers 0 to n - 1 with labels (n,) and, where texts belong together, groups (n,). Every
order depends on a seed alone.
"""

import math
import warnings

import numpy as np

from boundary import BadInput

Labels = np.ndarray  # (n,) from 0
Groups = np.ndarray | None  # (n,) from 0


def in_order(labels: Labels, seed, budget: int | None = None) -> np.ndarray:
    """The texts in random order, of which every beginning has the labels in proportion.

    It starts with a text of each label, so that a rare one is in a small beginning, too. Where the
    first `budget` are to be divided again, it starts with two of a label that would have fewer.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rank, size = _ranks(labels[order])
    place = (rank + 0.5) / size
    if budget is not None:
        place[(rank == 1) & (size * budget < 2 * len(labels))] = -1
    place[rank == 0] = -2
    return order[np.argsort(place, kind="stable")]


def _ranks(labels):
    """For each text how many of its label come before it, and how many have its label."""
    counts = np.bincount(labels)
    by_label = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), int)
    starts = np.cumsum(counts) - counts
    rank[by_label] = np.arange(len(labels)) - starts[labels[by_label]]
    return rank, counts[labels]


def take(labels: Labels, groups: Groups, share: float, seed) -> np.ndarray:
    """(n,) whether each text is among the share that is taken; those left have all labels.

    Whole groups come near to the share; without groups it is the share, rounded up.
    """
    if groups is not None:
        return _take_groups(labels, groups, share, seed)
    taken = np.zeros(len(labels), bool)
    order = in_order(labels, seed)
    rank, size = _ranks(labels[order])
    order = order[rank < size - 1]  # the last of each label is left
    taken[order[: math.ceil(len(labels) * share - 1e-9)]] = True
    return taken


def _counts(labels, groups):
    """How many texts of each label each group has: (groups, C)."""
    counts = np.zeros((groups.max() + 1, labels.max() + 1), int)
    np.add.at(counts, (groups, labels), 1)
    return counts


def _take_groups(labels, groups, share, seed):
    """Groups that together have about this share of each label's texts: large ones, then small.

    In random order within a size, a group is taken if that brings what is taken nearer to its
    share of what was seen. Of a label that all of this misses, a small group is taken at last. No
    group is taken that has all texts of a label that are left.
    """
    _, groups = np.unique(groups, return_inverse=True)
    counts = _counts(labels, groups)
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


def parts(labels: Labels, groups: Groups, size: int, seed) -> list[np.ndarray]:
    """The texts dealt out to as many parts of at least `size` as there can be, whole groups.

    A part has each label in two texts, or two groups, at least, unless all is one part.
    """
    holders = np.arange(len(labels)) if groups is None else groups
    classes = labels.max() + 1
    held = _count_holders(labels, holders, classes)
    count = min(len(labels) // size, held[held > 0].min() // 2)
    while count > 1:
        deal = (labels, count, seed)
        part = _deal(*deal) if groups is None else _deal_groups(groups, *deal)
        of_each = _count_holders(part * classes + labels, holders, count * classes)
        is_large = np.bincount(part, minlength=count).min() >= size
        if is_large and of_each.reshape(count, classes)[:, held > 0].min() > 1:
            return [np.flatnonzero(part == number) for number in range(count)]
        count = count * 19 // 20
    return [np.arange(len(labels))]


def _count_holders(classes, holders, count):
    """How many texts, or groups, each of `count` classes has."""
    most = holders.max() + 1
    return np.bincount(np.unique(classes * most + holders) // most, minlength=count)


def _deal(labels, count, seed):
    """The part of each text, dealt out label by label as cards are."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    part = np.empty(len(labels), int)
    part[order] = np.arange(len(labels)) % count
    return part


def _deal_groups(groups, labels, count, seed):
    """The part of each text: a group, large ones first, goes where its labels are rarest."""
    _, groups = np.unique(groups, return_inverse=True)
    counts = _counts(labels, groups)
    weighted = counts / np.maximum(counts.sum(axis=0), 1)
    random = np.random.default_rng(seed)
    order = random.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    parts, part = np.zeros((count, counts.shape[1])), np.empty(len(counts), int)
    for group in order:
        part[group] = np.argmin(parts @ weighted[group])
        parts[part[group]] += weighted[group]
    return random.permutation(count)[part[groups]]  # else the largest group is always in the first


def fold_of(labels: Labels, groups: Groups, folds: int, seed: int) -> np.ndarray:
    """The fold (n,) in which each text is tested; stratified, whole groups. Raises `BadInput`."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    units = len(labels) if groups is None else len(np.unique(groups))
    if max(np.bincount(labels)) < folds or units < folds:
        what = "texts of a label" if units >= folds else "groups" if groups is not None else "texts"
        raise BadInput(f"{folds} folds are more than there are {what}; give fewer --folds")
    if folds < 2:
        raise BadInput(f"{folds} folds leave nothing to train on; give more --folds")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    divide = kind(folds, shuffle=True, random_state=seed)
    fold = np.empty(len(labels), int)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of rare labels
        for number, (_, test) in enumerate(divide.split(labels, labels, groups)):
            fold[test] = number
    return fold
