"""A task: clean, labelled texts, and how they are divided.

    name -> raw splits (any columns, any labels)        reading.py, columns.py
         -> Task: clean text, labels 0 to C - 1         loading.py; no text twice
         -> Division: train / validation / test         positions in the task's rows

Without an official test, every text is tested once in `folds`, where seed s is fold s; or the test
is a tenth, by the split's seed alone. A budget of n labels counts train and validation: the texts
for training are cut into as many disjoint parts as there can be, and seed s has part s. With groups
(a film, a patient, an author) whole groups are in train, validation or test.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from boundary import BadInput

from .cleaning import some
from .dividing import fold_of, in_order, parts, take

TEST_SHARE = 0.1  # of the data, where it has no test of its own, and no folds are asked for


@dataclass(frozen=True)
class Division:
    """Which texts train, validate and test: positions in the task's rows, in their order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Task:
    """Clean texts with labels, perhaps in groups."""

    name: str
    rows: pd.DataFrame  # text, label (0 to C - 1), split and, if group is not None, group
    label_names: list[str]
    notes: list[str]  # what was understood, and left out, in words
    warnings: list[str]  # what spoils a comparison
    group: str | None  # the column of groups
    text_column: str
    label_column: str
    left_out: (
        pd.DataFrame
    )  # split, row (as its file counts: a CSV file's header is 1), reason, text

    @property
    def has_test(self) -> bool:
        """Whether the data has a test of its own."""
        return bool((self.rows["split"] == "test").any())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all texts, labels, splits and groups, and of the labels' names."""
        digest = hashlib.sha256(repr(self.label_names).encode())
        for column in self.rows:
            cells = "\0".join(map(str, self.rows[column]))
            digest.update(f"{column}\0{cells}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    # ------------------------------------------------------------------------ dividing

    def divide(
        self,
        seed: int,
        labels: int | None = None,
        validation_share: float = 0.2,
        test_examples: int | None = None,
        folds: int | None = None,
        split_seed: int = 0,
    ) -> Division:
        """Train and validation of `labels` texts together, and a test (None: all there are).

        Raises `BadInput` where train, or a validation of few labels, would lack a label.
        """
        notes = []
        train, validation, test = self._official(folds, notes)
        if test is None:
            train, test = self._divide_test(train, seed, folds, split_seed, notes)
        draw = _Draw(seed, split_seed, labels, validation_share)
        train, validation, used = self._sample(train, validation, draw, notes)
        if labels is not None and labels > used:
            notes.append(f"{labels:,} labels asked for, all {used:,} used")
        remedy = self.remedy(labels if labels is not None and labels < used else None)
        self.check_labels(train, "training", remedy)
        is_small = labels is not None and labels < used and folds is None and not self.group
        self.check_labels(validation, "validation", remedy, None if is_small else notes)
        self.check_labels(test, "test", self.remedy(), notes)
        if test_examples is not None:
            order = in_order(self._labels[test], [split_seed])[:test_examples]
            if test_examples > len(test):
                notes.append(f"{test_examples:,} test texts asked for, all {len(test):,} used")
            test = np.sort(test[order])
        return Division(train, validation, test, notes)

    def divide_all(self, seed: int, validation_share: float = 0.2, split_seed: int = 0) -> Division:
        """Every text, those of an official test too, in train or validation: for a final model."""
        everything, notes = np.arange(len(self.rows)), []
        draw = _Draw(seed, split_seed, None, validation_share)
        train, validation, _ = self._sample(everything, None, draw, notes)
        self.check_labels(train, "training", self.remedy(None))
        self.check_labels(validation, "validation", self.remedy(), notes)
        return Division(train, validation, everything[:0], notes)

    @cached_property
    def _labels(self):
        return self.rows["label"].to_numpy()

    @cached_property
    def _groups(self):
        return pd.factorize(self.rows["group"], sort=True)[0] if self.group else None

    def _of(self, index):
        """The labels and the groups of the texts at `index`."""
        return self._labels[index], None if self._groups is None else self._groups[index]

    def _official(self, folds, notes):
        """The source's own train, validation and test; None where there is none."""
        split = self.rows["split"].to_numpy()
        train, validation, test = (
            np.flatnonzero(split == name) for name in ("train", "validation", "test")
        )
        if folds and len(test):
            notes.append("the data has its own test, which all seeds share: no folds")
        elif folds and len(validation):
            notes.append("the data's validation texts join the others: each is tested once")
            train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
        return train, (validation if len(validation) else None), (test if len(test) else None)

    def _divide_test(self, pool, seed, folds, split_seed, notes):
        """The pool without its test, and the test."""
        by = f" by {self.group}" if self.group else ""
        if folds is None:
            is_test = take(*self._of(pool), TEST_SHARE, [split_seed])
            notes.append(f"test taken from train: {TEST_SHARE:.0%}{by}, stratified by label")
            return pool[~is_test], pool[is_test]
        if not 0 <= seed < folds:
            raise BadInput(f"there is no fold for seed {seed}: {folds} folds have 0 to {folds - 1}")
        fold = self._folds(pool, folds, split_seed)
        notes.append(f"each text is tested once: {folds} folds{by}, stratified by label")
        return pool[fold != seed], pool[fold == seed]

    @cached_property
    def _dealt(self):
        """The folds by their number and seed: with groups they take a second or two."""
        return {}

    def _folds(self, pool, folds, split_seed):
        labels, groups = self._of(pool)
        if (folds, split_seed) not in self._dealt:
            self._dealt[folds, split_seed] = fold_of(labels, groups, folds, split_seed)
        fold = self._dealt[folds, split_seed]
        if len(np.unique(fold)) < folds:
            line = f"one {self.group} has so many texts that a fold of {folds} has none"
            raise BadInput(f"{line}; give fewer --folds, or another --group-column")
        for number, label in enumerate(self.label_names):
            if len(np.unique(fold[labels == number])) < 2:
                where = f"one {self.group}" if self.group else "one text"
                line = f"{self.name} has the label {label!r} in {where}"
                line += " or fold alone" if self.group else " alone"
                raise BadInput(f"{line}, so that it cannot be trained and tested; {self.remedy()}")
        return fold

    def _sample(self, train, validation, draw, notes):
        """Train and validation of a seed, and how many labels they could have in all."""
        pools = [pool for pool in (train, validation) if pool is not None]
        most, labels = sum(map(len, pools)), draw.labels
        if validation is None:
            pool = self._part(train, labels, draw, notes)
            is_validation = take(*self._of(pool), draw.share, [draw.split_seed, draw.seed])
            return pool[~is_validation], pool[is_validation], most
        if labels is not None:
            count = max(round(labels * draw.share), labels - len(train), 1)
            count = min(count, len(validation))
            validation = self._part(validation, count, draw, [])
            train = self._part(train, max(1, labels - count), draw, notes)
        return train, validation, most

    def _part(self, pool, count, draw, notes):
        """`count` texts of the pool (None: all): another part of it for another seed."""
        if count is None or count >= len(pool):
            return pool
        labels, groups = self._of(pool)
        seed, begun = draw.seed, 0
        dealt = parts(labels, groups, count, [draw.split_seed, 0])
        if seed >= len(dealt):  # all are taken: deal anew
            begun, seed = divmod(seed, len(dealt))
            dealt = parts(labels, groups, count, [draw.split_seed, begun])
            seed %= len(dealt)
        line = f"disjoint training samples of {count:,} labels that there can be: {len(dealt):,}"
        notes.append(f"{line}; seed {draw.seed} shares texts with another" if begun else line)
        part = pool[dealt[seed]]
        order = in_order(self._labels[part], [draw.split_seed, draw.seed], budget=count)
        return np.sort(part[order[:count]])

    def remedy(self, labels: int | None = None) -> str:
        """What to do about a label that some texts lack."""
        more = f"use more --labels than {labels}, or another --validation-share"
        more = "add texts with it, or drop the label" if labels is None else more
        return f"{more}, or another --group-column than {self.group}" if self.group else more

    def check_labels(
        self, index: np.ndarray, what: str, remedy: str, notes: list[str] | None = None
    ) -> None:
        """Refuse texts that lack a label, or say so in `notes`; and refuse none at all."""
        if not len(index):
            raise BadInput(f"no {what} text of {self.name} can be set aside; {remedy}")
        held = set(self._labels[index])
        lacking = [repr(name) for i, name in enumerate(self.label_names) if i not in held]
        if lacking:
            line = f"no {what} text of {self.name} has the label {some(lacking, 5)}"
            if notes is None:
                raise BadInput(f"{line}; {remedy}")
            notes.append(line)


@dataclass(frozen=True)
class _Draw:
    """What decides which labels a seed has."""

    seed: int
    split_seed: int
    labels: int | None
    share: float  # that validates
