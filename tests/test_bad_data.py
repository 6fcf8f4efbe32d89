"""Bad reviews are refused in one line, and no code that comes with them is run."""

import json
import os
import pickle

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import reviews_frame
from datasets import Dataset, DatasetDict
from test_reviews import load_reviews

from boundary import BadInput
from data_utils import reading


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(suffix, n=40, **columns):
    """A function that writes a file of n reviews with these columns in a folder."""

    def make(folder):
        frame, path = reviews_frame(n).assign(**columns), folder / f"r{suffix}"
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pandas(frame), path)
        elif suffix == ".jsonl":
            path.write_text("\n".join(map(json.dumps, frame.to_dict("records"))))
        else:
            frame.to_csv(path, index=False)
        return path

    return make


def folder_of(**frames):
    """A function that writes a CSV file a split."""

    def make(folder):
        for split, frame in frames.items():
            frame.to_csv(folder / f"{split}.csv", index=False)
        return folder

    return make


def class_folders(folder, *more):
    for label in ("neg", "pos", *more):
        write(folder / "train" / label / "1.txt", "text")
    return folder


ROWS = reviews_frame(60)
CSV = "text,label\n" + "\n".join(f"café film {i},{i % 2}" for i in range(60)) + "\n"
TWICE = pd.concat([ROWS[40:50], ROWS[40:50].assign(label=1 - ROWS["label"][40:50])])
KIND = "; expected whole numbers, booleans or strings"
BAD = {
    "no such file": (lambda d: d / "absent.csv", "absent.csv does not exist"),
    "empty file": (lambda d: write(d / "e.csv", ""), "e.csv cannot be read (EmptyDataError: No c"),
    "no such column": (
        lambda d: write(d / "c.csv", "review,stars\ngood,1\nbad,0\n"),
        "no column 'text'; it has 'review', 'stars'",
    ),
    "one class": (
        lambda d: write(d / "o.csv", "text,label\na,1\nb,1\nc,1\n"),
        "have the label '1'; expected two or more",
    ),
    "numbers as texts": (table(".jsonl", text=range(40)), "int values, not text"),
    "label missing": (lambda d: write(d / "l.csv", "text,label\na,0\nb,\nc,1\n"), "1 rows of "),
    "fractions": (table(".csv", label=[0.5, 1] * 20), "float values" + KIND),
    "labels of two kinds": (table(".jsonl", label=["0", 0] * 20), "int and str values" + KIND),
    "control characters": (table(".jsonl", label=["\x1b[2J", "c"] * 20), r"the label '\x1b[2J'"),
    "only spaces": (
        lambda d: write(d / "s.csv", 'text,label\n" ",0\n" ",1\n'),
        "is left (2 empty texts",
    ),
    "broken json": (
        lambda d: write(d / "b.jsonl", '{"text": "a", "lab'),
        "b.jsonl cannot be read (ValueError: ",
    ),
    "truncated parquet": (
        lambda d: write(d / "p.parquet", table(".parquet")(d).read_bytes()[:900]),
        "p.parquet cannot be read (ArrowInvalid: ",
    ),
    "latin-1": (lambda d: write(d / "l.csv", CSV.encode("latin-1")), "expected UTF-8 text"),
    "latin-1 in a class folder": (
        lambda d: write(class_folders(d) / "train/neg/é.txt", b"caf\xe9").parents[2],
        "é.txt cannot be read (Unicode",
    ),
    "a row too long": (lambda d: write(d / "r.csv", CSV + "a, b, c,1\n"), "Expected 2 "),
    "two files for a split": (
        lambda d: write(write(d / "train.csv", CSV).with_suffix(".json"), "[]").parent,
        "has train.csv, train.json; expected one file a split",
    ),
    "two folders for a split": (
        lambda d: (class_folders(d) / "dev").mkdir() or class_folders(d / "val").parent,
        "has dev, train, val; expected one file a split",
    ),
    "unknown format": (lambda d: write(d / "r.xlsx", "x"), "no .csv, .json"),
    "folder of nothing": (lambda d: d, "has no data; expected one file a split, train.csv|"),
    "too few to split": (
        lambda d: write(d / "t.csv", "text,label\na,0\nb,1\n"),
        "has the label '1'; add some",
    ),
    "validation is in test": (
        folder_of(train=ROWS[:40], validation=ROWS[50:55], test=ROWS[50:]),
        "no validation review of ",
    ),
    "train is in test": (folder_of(train=ROWS, test=ROWS), "no train review of "),
    "test of contradictions": (
        folder_of(train=ROWS[:40], test=TWICE),
        "is left (20 reviews whose text has two labels dropped from test); add others",
    ),
    "train lacks a label": (
        folder_of(train=ROWS[:40], test=pd.concat([ROWS[40:], ROWS[:1].assign(text="x", label=2)])),
        "has the label '2'; add some, or drop the label",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_in_one_line_that_names_it(tmp_path, name):
    make, line = BAD[name]
    data = str(make(tmp_path))
    with pytest.raises(BadInput) as error:
        load_reviews(data)
    assert line in str(error.value)
    assert data[:100] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_budget_too_small_for_its_share_of_validation_is_refused(reviews_csv):
    line = "no validation review .* has the label '[01]'; use more LABELS than 5, or another VALID"
    with pytest.raises(BadInput, match=line):
        load_reviews(str(reviews_csv), labels=5)


class Intruder:
    """What a pickle could do to whoever opens it."""

    def __reduce__(self):
        return os.mkdir, ("intruded",)


@pytest.mark.parametrize("name", ["pandas", "name", "owner/name", "./owner/name", "owner/name.py"])
def test_no_code_that_comes_with_data_is_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    script = "import os\nos.mkdir('intruded')\n"
    for path in ("name/name.py", "owner/name/name.py", "owner/name.py", "owner/name/train.py"):
        write(tmp_path / path, script)
    write(tmp_path / "train.pkl", pickle.dumps(Intruder()))
    with pytest.raises(BadInput):
        load_reviews(name)
    assert not (tmp_path / "intruded").exists()


def test_the_hub_is_asked_for_data_and_no_code(monkeypatch):
    asked = []

    def record(name, **how):
        asked.append(how)
        return DatasetDict(test=Dataset.from_pandas(reviews_frame(4)))

    monkeypatch.setattr(reading, "load_dataset", record)
    with pytest.raises(BadInput, match="owner/name has no split 'train'; it has 'test'"):
        load_reviews("owner/name")
    assert asked == [{"trust_remote_code": False}]


def test_unreachable_hub_says_what_to_set():
    with pytest.raises(BadInput, match="set DATASET to a local file.* to one of imdb, "):
        load_reviews("stanfordnlp/imdb-that-is-not-there")
