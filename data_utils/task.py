"""A task: clean, labelled texts, and how they are divided.

    name -> raw splits (any columns, any labels)        files.py, columns.py
         -> Task: clean text, labels 0 to C - 1         loading.py; no text twice
         -> Division: train / validation / test         positions in the task's rows

Without an official test, every text is tested once in `folds`, where seed s tests fold s; without
folds, the test is a tenth, drawn by the split's seed alone. A budget of n labels counts train and
validation: the texts for training are cut into as many disjoint parts as there can be, and seed s
has part s. With groups (a film, a patient, an author) whole groups are in train, validation or
test.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from boundary import BadInput, some

from .dividing import fold_of, in_order, sample, take

TEST_SHARE = 0.1  # of the data, where it has no test of its own, and no folds are asked for


@dataclass(frozen=True)
class Division:
    """The texts for training, validation and test, as rising positions in the task's rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: list[str] = field(default_factory=list)
    is_sample: bool = False  # train and validation are a sample


@dataclass(frozen=True, eq=False)
class Task:
    """Clean texts with labels, perhaps in groups."""

    name: str
    # text, label (0 to C - 1), perhaps group; split; file_row (in CSV, the header is 1)
    rows: pd.DataFrame
    label_names: list[str]
    notes: list[str]  # how the data was understood, and what was left out
    warnings: list[str]  # faults that spoil a comparison
    group: str | None  # the column of groups
    text_column: str
    left_out: pd.DataFrame  # split, row (of the file), reason, label, text
    _folds: dict = field(default_factory=dict)  # by number and seed: making folds is slow

    @property
    def has_test(self) -> bool:
        """Whether the data has a test of its own."""
        return bool((self.rows["split"] == "test").any())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all texts, labels, splits and groups, and of the labels' names."""
        digest = hashlib.sha256(repr(self.label_names).encode())
        for column in self.rows.columns.drop("file_row"):
            cells = "\0".join(map(str, self.rows[column]))
            digest.update(f"{column}\0{cells}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def divide(
        self,
        seed: int,
        labels: int | None = None,
        validation_share: float = 0.2,
        test_examples: int | None = None,
        folds: int | None = None,
        split_seed: int = 0,
    ) -> Division:
        """The division for a seed, with a training sample and a test. Raises `BadInput`.

        `labels` is the number of texts in train and validation together, `test_examples` the
        largest number in the test; None: all.
        """
        notes, seeds = [], (split_seed, seed)
        train, validation, test = self._pools(seed, folds, test_examples, split_seed, notes)
        has_folds = bool(folds and not self.has_test)
        told = [] if has_folds else notes  # each fold draws from other texts
        available = len(train) + len(validation)
        if labels is not None and labels > available:
            notes.append(f"{labels:,} labels asked for, all {available:,} used")
        if labels is not None and labels >= available:
            labels = None
        if not len(validation):
            pool = self._part(train, labels, seeds, told)
            train, validation = self._divided(pool, validation_share, seeds)
        elif labels is not None:
            # Validation has its share of the labels, and more where train has too few texts.
            count = max(round(labels * validation_share), labels - len(train), 1)
            count = min(count, len(validation))
            validation = self._part(validation, count, seeds, [])
            train = self._part(train, max(1, labels - count), seeds, told)
        self.check_labels(train, "training", labels)
        is_strict = labels is not None and folds is None and not self.group
        lacking, place = [], f"fold {seed}: " * has_folds
        self.check_labels(validation, "validation", labels, None if is_strict else lacking)
        self.check_labels(test, "test", None, lacking)
        notes += [place + line for line in lacking]
        if test_examples is not None:
            if test_examples > len(test):
                notes.append(f"{test_examples:,} test texts asked for, all {len(test):,} used")
            order = in_order(self.rows["label"].to_numpy()[test], [split_seed])
            test = np.sort(test[order[:test_examples]])
        return Division(train, validation, test, notes, is_sample=labels is not None)

    def _pools(self, seed, folds, test_examples, split_seed, notes):
        """Positions of the texts that may train, only validate (perhaps none), and test."""
        split, by = self.rows["split"].to_numpy(), f" by {self.group}" if self.group else ""
        train, validation, test = (
            np.flatnonzero(split == name) for name in ("train", "validation", "test")
        )
        if folds and len(test):
            notes.append("the data has its own test, which all seeds share: no folds")
        elif folds:
            if len(validation):
                notes.append("the data's validation texts join the others in the folds")
                validation = validation[:0]
            tested = "each text is tested once"
            if test_examples is not None:
                tested = f"at most {test_examples:,} texts of a fold are tested"
            notes.append(f"{tested}: {folds} folds{by}, stratified by label")
            train, test = self._fold(seed, folds, split_seed)
        elif not len(test):
            train, test = self._divided(train, TEST_SHARE, [split_seed])
            notes.append(f"test taken from train: {TEST_SHARE:.0%}{by}, stratified by label")
        return train, validation, test

    def divide_all(self, seed: int, validation_share: float = 0.2, split_seed: int = 0) -> Division:
        """The division of a final model: each text, an official test's too, trains or validates."""
        everything, notes = np.arange(len(self.rows)), []
        train, validation = self._divided(everything, validation_share, (split_seed, seed))
        self.check_labels(train, "training", None)
        self.check_labels(validation, "validation", None, notes)
        return Division(train, validation, everything[:0], notes)

    def _labels_and_groups(self, index):
        """The labels and the groups of the texts at `index`."""
        groups = pd.factorize(self.rows["group"], sort=True)[0][index] if self.group else None
        return self.rows["label"].to_numpy()[index], groups

    def tested(self, folds: int, test_examples: int | None = None, split_seed: int = 0) -> int:
        """How many texts all folds together test, of data without a test of its own."""
        sizes = np.bincount(self._fold_of(folds, split_seed))
        return int(np.minimum(sizes, test_examples or len(self.rows)).sum())

    def _fold_of(self, folds, split_seed):
        """The fold of each text."""
        if (folds, split_seed) not in self._folds:
            everything = self._labels_and_groups(np.arange(len(self.rows)))
            self._folds[folds, split_seed] = fold_of(*everything, folds, split_seed)
        return self._folds[folds, split_seed]

    def _fold(self, seed, folds, split_seed):
        """The positions of the texts outside fold `seed`, and of the texts in it."""
        if not 0 <= seed < folds:
            line = f"there is no fold for seed {seed}: {folds} folds have 0 to {folds - 1}"
            raise BadInput(f"{line}; give --seeds {' '.join(map(str, range(folds)))}")
        fold = self._fold_of(folds, split_seed)
        return np.flatnonzero(fold != seed), np.flatnonzero(fold == seed)

    def _divided(self, index, share, seeds):
        """`index` in two parts: without a share of the texts, and that share."""
        is_taken = take(*self._labels_and_groups(index), share, seeds)
        return index[~is_taken], index[is_taken]

    def _part(self, pool, count, seeds, notes):
        """`count` texts of the pool (None: all); another seed gets another part of it."""
        if count is None or count >= len(pool):
            return pool
        index, samples = sample(self.rows["label"].to_numpy()[pool], count, seeds)
        which = f"seeds below {samples:,} share no text" if samples > 1 else "seeds share texts"
        notes.append(f"training samples of {count:,} labels: {which}")
        return pool[index]

    def check_labels(
        self, index: np.ndarray, split: str, labels: int | None, notes: list[str] | None = None
    ) -> None:
        """Raise `BadInput` where the texts at `index` lack a label, or say so in `notes`.

        `labels` is the budget of labels where it leaves texts out, for the message.
        """
        present = set(self.rows["label"].to_numpy()[index])
        lacking = [repr(name) for i, name in enumerate(self.label_names) if i not in present]
        line = f"no {split} text of {self.name} has the label {some(lacking, 5)}"
        if lacking and present and notes is not None:
            notes.append(line)
        elif lacking:
            todo = f"use more --labels than {labels}, or another --validation-share"
            todo = "add texts with it, or drop the label" if labels is None else todo
            todo += f", or another --group-column than {self.group}" if self.group else ""
            raise BadInput(f"{line}; {todo}")
