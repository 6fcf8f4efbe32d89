"""Train, validation and test share no text and no group, and each label is learnt and tested."""

import numpy as np
import pandas as pd
import pytest
from conftest import reviews_frame

from boundary import BadInput
from data_utils import load_task


@pytest.fixture
def make(tmp_path):
    """A function: the task of a frame, or of frames by split."""

    def load(frame=None, group=None, **frames):
        for split, part in frames.items():
            part.to_csv(tmp_path / f"{split}.csv", index=False)
        if frame is not None:
            frame.to_csv(tmp_path / "r.csv", index=False)
        name = tmp_path if frame is None else tmp_path / "r.csv"
        return load_task(str(name), "text", "label", group)

    return load


def labelled(*counts, groups=0, seed=0):
    """Texts with labels a, b, … that occur so often, in random order, in groups of random size."""
    random = np.random.default_rng(seed)
    labels = np.repeat(list("abcdefgh")[: len(counts)], counts)
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))]})
    frame["label"] = random.permutation(labels)
    if groups:
        frame["who"] = [f"g{i}" for i in random.integers(0, groups, len(labels)) ** 2 // groups]
    return frame


def held(task, parts, column):
    values = task.rows[column].to_numpy()
    return [set(values[index]) for index in (parts.train, parts.validation, parts.test)]


def check(task, parts):
    """What is true of every division."""
    indices = np.concatenate([parts.train, parts.validation, parts.test])
    assert len(set(indices)) == len(indices)
    assert all((np.diff(index) > 0).all() for index in (parts.train, parts.validation, parts.test))
    assert held(task, parts, "label")[0] == set(range(len(task.label_names)))
    if task.group:
        train, validation, test = held(task, parts, "group")
        assert not (train & validation or train & test or validation & test)


@pytest.mark.parametrize("trial", range(16))
def test_random_tasks_are_divided_without_leaks(make, trial):
    random = np.random.default_rng(trial)
    counts = random.integers(30, 300, random.integers(2, 6))
    groups = int(random.choice([0, 40, 120]))
    task = make(labelled(*counts, groups=groups, seed=trial), "who" if groups else None)
    n, budget, tested = len(task.rows), int(random.integers(30, 200)), []
    for seed in range(5):
        folds = task.divide(seed, folds=5, split_seed=trial)
        check(task, folds)
        assert len(folds.train) + len(folds.validation) + len(folds.test) == n
        tested += list(folds.test)
        few = task.divide(seed, folds=5, labels=30)
        check(task, few)
        assert len(few.train) + len(few.validation) == min(30, n - len(few.test))
        one = task.divide(seed, validation_share=0.3)
        check(task, one)
        assert len(one.train) + len(one.validation) + len(one.test) == n
        sample = task.divide(seed, labels=budget, validation_share=0.5)
        check(task, sample)
        used = len(sample.train) + len(sample.validation)
        assert used == min(budget, n - len(sample.test))
        assert sample.is_sample == (used < n - len(sample.test)) and not one.is_sample
        assert not task.divide(seed, labels=n - len(one.test)).is_sample
        assert set(sample.test) == set(one.test)
        whole = task.divide_all(seed)
        check(task, whole)
        assert len(whole.train) + len(whole.validation) == n and not len(whole.test)
    assert sorted(tested) == list(range(n)) and task.tested(5, split_seed=trial) == n
    few = [task.divide(seed, test_examples=20, folds=5, split_seed=trial) for seed in range(5)]
    assert sum(len(parts.test) for parts in few) == task.tested(5, 20, trial)


def test_a_division_depends_on_its_seeds_alone(make):
    task = make(labelled(100, 100, groups=50), "who")
    for how in ({"labels": 40}, {"folds": 5}, {}):
        one, again = task.divide(1, **how), task.divide(1, **how)
        other, moved = task.divide(2, **how), task.divide(1, split_seed=1, **how)
        for split in ("train", "validation", "test"):
            assert np.array_equal(getattr(one, split), getattr(again, split))
            assert not np.array_equal(getattr(one, split), getattr(moved, split))
        assert not np.array_equal(one.train, other.train)
        assert not np.array_equal(one.validation, other.validation)
        assert np.array_equal(one.test, other.test) == ("folds" not in how)


@pytest.mark.parametrize("groups", [0, 100])
def test_training_samples_are_disjoint_as_long_as_the_pool_allows(make, groups):
    task = make(labelled(350, 350, 20, groups=groups), "who" if groups else None)
    pool = len(task.rows) - len(task.divide(0).test)
    samples = []
    for seed in range(12):
        parts = task.divide(seed, labels=100)
        samples.append({*parts.train, *parts.validation})
        assert len(samples[-1]) == 100
        note = "training samples of 100 labels: seeds below 6 share no text"
        assert note in parts.notes and "training" not in str(task.divide(3, 100, folds=5).notes)
    several = pool // 100
    assert several == 6
    for round in (samples[:several], samples[several : 2 * several]):
        assert len(set.union(*round)) == 100 * several
    assert len(samples[0] & samples[several]) < 50  # dealt anew


def test_each_part_has_the_labels_in_proportion_and_rare_ones_twice(make):
    for counts in ((600, 380, 20), (500, 500, 3)):  # the second has too few for disjoint samples
        task = make(labelled(*counts))
        labels = task.rows["label"].to_numpy()
        for seed in range(8):
            parts = task.divide(seed, labels=100)
            for index in (parts.train, parts.validation):
                found = np.bincount(labels[index], minlength=3)
                expected = len(index) * np.array(counts) / sum(counts)
                assert found.min() >= 1 and np.abs(found - expected).max() <= 1.6


def test_sizes_beyond_what_there_is_are_all_there_is(make):
    task = make(labelled(500, 300, 200))
    whole, small, more = (task.divide(0, test_examples=n) for n in (None, 20, 1000))
    assert set(small.test) < set(whole.test) == set(more.test)
    assert np.bincount(task.rows["label"].to_numpy()[small.test]).tolist() == [10, 6, 4]
    assert "1,000 test texts asked for, all 100 used" in more.notes
    asked = task.divide(0, labels=5000)
    assert "5,000 labels asked for, all 900 used" in asked.notes
    assert np.array_equal(asked.train, whole.train)
    assert not any("asked for" in note for note in task.divide(0, labels=900).notes)


def test_an_official_test_is_the_test_whatever_the_folds(make):
    frame = labelled(60, 60)
    task = make(train=frame[:100], test=frame[100:])
    for seed in (0, 7):
        parts = task.divide(seed, folds=5)
        check(task, parts)
        assert set(task.rows["split"][parts.test]) == {"test"} and len(parts.test) == 20
        assert any("its own test" in note for note in parts.notes)
    for share, validation in ((0.2, 24), (0.5, 60)):
        whole = task.divide_all(0, share)
        assert (len(whole.train), len(whole.validation)) == (120 - validation, validation)


def test_official_validation_texts_validate(make):
    frame = labelled(90, 90)
    task = make(train=frame[:100], validation=frame[100:140], test=frame[140:])
    for labels, counts in {None: (100, 40), 50: (40, 10), 130: (100, 30), 500: (100, 40)}.items():
        parts = task.divide(1, labels)
        check(task, parts)
        assert (len(parts.train), len(parts.validation)) == counts
        assert set(task.rows["split"][parts.validation]) == {"validation"}
        assert set(task.rows["split"][parts.train]) == {"train"}


def test_with_folds_validation_texts_and_rare_labels_are_tested_as_the_others(make):
    frame = labelled(90, 90, 2)
    task, tested = make(train=frame[:140], validation=frame[140:]), []
    assert any("'c' (2)" in line for line in task.warnings)
    for seed in range(5):
        parts = task.divide(seed, folds=5)
        check(task, parts)
        tested += list(parts.test)
        line = f"fold {seed}: no validation text of {task.name} has the label 'c'"
        is_said = line in parts.notes
        assert is_said == (2 not in held(task, parts, "label")[1])
    assert sorted(tested) == list(range(182))


def test_a_label_missing_in_validation_alone_is_a_note_unless_labels_are_few(make):
    task = make(labelled(50, 50, 2))
    (line,) = [note for note in task.divide(0).notes if "no validation text" in note]
    assert line.startswith("no validation text of ")  # without folds none is named
    with pytest.raises(BadInput, match="no validation text .* use more --labels than 5, or anothe"):
        make(labelled(50, 50)).divide(0, labels=5)


def test_a_label_that_would_be_tested_and_not_learnt_is_left_out(make):
    single = make(labelled(50, 50, 1))
    assert single.label_names == ["a", "b"] and len(single.rows) == 100
    assert single.left_out["reason"].tolist() == ["the only text of its label"]
    only = pd.DataFrame({"text": ["x", "y"], "label": "c", "who": "g0"})
    task = make(pd.concat([labelled(100, 100, groups=40), only]), "who")
    assert task.label_names == ["a", "b"] and set(task.left_out["text"]) == {"x", "y"}
    assert set(task.left_out["reason"]) == {"its label is of one who alone"}
    for seed in range(5):
        check(task, task.divide(seed, folds=5))
    test = labelled(20, 20)
    test = pd.concat([test.assign(text=test["text"] + "!"), only])
    task = make(train=labelled(50, 50), test=test)
    assert set(task.left_out["reason"]) == {"its label is not in train"}
    assert (
        "labels that train lacks: 'c'; add such texts to train, or write a label alike in all"
        in task.warnings
    )
    assert set(task.left_out["text"]) == {"x", "y"} and len(task.rows) == 140


FOUR = labelled(20, 20).assign(who=["a", "b", "c", "d"] * 10)
REFUSED = {  # the task, its folds, and what is said
    "a seed too many": (labelled(20, 20), 3, "no fold for seed 3: .* 0 to 2; give --seeds 0 1 2$"),
    "one fold": (labelled(20, 20), 1, "1 folds cannot be made .*; give other --folds"),
    "more folds than texts": (labelled(20, 20), 50, "none has more than 20; add texts"),
    "fewer groups than folds": (FOUR, 5, "5 folds cannot be made .* number of groups"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_divided_is_refused_in_one_line(make, name):
    frame, folds, line = REFUSED[name]
    task = make(frame, "who" if "who" in frame else None)
    with pytest.raises(BadInput, match=line):
        [task.divide(seed, folds=folds) for seed in range(folds + 1)]


def test_of_a_rare_labels_groups_one_is_in_each_part(make):
    """Of three groups; by its size alone none would be taken."""
    frame = labelled(100, 100, 6).sort_values("label")
    task = make(frame.assign(who=np.arange(206) // 2), "who")
    for seed in range(4):
        parts = task.divide(0, split_seed=seed)
        assert held(task, parts, "label") == [{0, 1, 2}] * 3


@pytest.mark.parametrize("size", [1, 3, 12])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_whole_groups_come_near_to_the_share(make, size, share):
    frame = reviews_frame(120).assign(who=[f"p{i // size}" for i in range(120)])
    parts = make(frame, "who").divide(0, validation_share=share)
    assert abs(len(parts.test) - 12) <= size
    assert abs(len(parts.validation) - share * (120 - len(parts.test))) <= size
