"""Bad data is refused in one line, and no code that comes with it is run; files: test_files.py."""

import pickle

import pandas as pd
import pytest
from conftest import reviews_frame
from hostile import Intruder
from test_files import save, write

from boundary import BadInput
from data_utils import load_task


def file(name, content):
    """A function that writes a file in a folder."""
    return lambda folder: write(folder / name, content)


def lines(n=40, **columns):
    """A function that writes a file of JSON lines with n texts and these columns in a folder."""
    return lambda folder: save(reviews_frame(n).assign(**columns), folder / "r.jsonl")


def folder_of(**frames):
    """A function that writes a CSV file a split."""

    def make(folder):
        for split, frame in frames.items():
            save(frame, folder / f"{split}.csv")
        return folder

    return make


ROWS = reviews_frame(60)
CSV = "text,label\n" + "\n".join(f"film {i},{i % 2}" for i in range(60)) + "\n"
SHIFT_JIS = CSV.encode() + "映画、,1\n".encode("shift-jis")
EXCEL = "sep=;\n" + CSV.replace(",", ";")
TRAIN = ROWS[:40]
TWICE = pd.concat([ROWS[40:50], ROWS[40:50].assign(label=1 - ROWS["label"][40:50])])
OTHERS = ROWS[40:].rename(columns={"text": "body"})
KIND = '; expected texts of one line, such as "2.5", whole numbers or booleans'
BAD = {
    "one label": (file("o.csv", "text,label\na,1\nb,1\n"), "have the label '1'; expected two"),
    "numbers as texts": (lines(text=range(40)), "r.jsonl, row 1: text holds int, not text"),
    "fractions": (lines(label=[0.5, 1.0] * 20), "has the label 0.5" + KIND),
    "lists as labels": (lines(label=[[0], [1]] * 20), "has the label [0]" + KIND),
    "neither encoding": (file("j.csv", SHIFT_JIS), "; in a spreadsheet, save as 'CSV UTF-8'"),
    "an Excel directive": (file("e.csv", EXCEL), "e.csv begins with a line 'sep='; delete it"),
    "two files for a split": (
        lambda d: write(write(d / "train.csv", CSV).with_suffix(".json"), "[]").parent,
        "has train.csv, train.json; expected one file a split",
    ),
    "folder of nothing": (lambda d: d, "has no data; expected one file a split, train.csv|"),
    "train is in test": (folder_of(train=ROWS, test=ROWS), "no train text of "),
    "contradictions": (
        folder_of(train=TRAIN, test=TWICE),
        "(20 × a text with two labels); add others, or give another --text-column or --label-",
    ),
    "labels of another case": (
        folder_of(train=TRAIN.assign(label=["a", "b"] * 20), test=ROWS[40:].assign(label="A")),
        "; the labels 'A' and 'a' differ by space, case, Unicode form or .0: write equal l",
    ),
    "labels of another name": (
        folder_of(train=TRAIN.assign(label=["a", "b"] * 20), test=ROWS[40:].assign(label="bad")),
        "; labels that train lacks: 'bad'; add such texts to train, or write a label alike",
    ),
    "splits of other columns": (folder_of(train=TRAIN, test=OTHERS), "have no column 'text'"),
    "a label of one of two files": (
        folder_of(train=TRAIN, test=ROWS[40:].assign(label="\x1b")),
        r", test, row 2, has the label '\x1b'" + KIND,
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_in_one_line_that_names_it(tmp_path, name):
    make, line = BAD[name]
    data = str(make(tmp_path))
    with pytest.raises(BadInput) as error:
        load_task(data, "text", "label")
    assert line in str(error.value)
    assert data[:100] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pandas", "name", "owner/name", "./owner/name", "owner/name.py"])
def test_no_code_that_comes_with_data_is_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    script = "import os\nos.mkdir('intruded')\n"
    for path in ("name/name.py", "owner/name/name.py", "owner/name.py", "owner/name/train.py"):
        write(tmp_path / path, script)
    write(tmp_path / "train.pkl", pickle.dumps(Intruder()))
    with pytest.raises(BadInput):
        load_task(name)
    assert not (tmp_path / "intruded").exists()


def test_unreachable_hub_says_what_to_set():
    with pytest.raises(BadInput, match="or a local path, or one of imdb, "):
        load_task("stanfordnlp/imdb-that-is-not-there")


def test_labels_of_any_script_and_files_of_a_folder_in_any_case_are_read(tmp_path):
    names = ["very\xa0good", "良い\u3000映画", "می\u200cخواهم"]
    rows = ROWS.assign(label=[names[n % 3] for n in range(60)])
    parts = {"Train": rows[:40], "TEST": rows[40:50], "dev": rows[50:], "eval": rows[40:]}
    for name, part in parts.items():
        save(part, tmp_path / f"{name}.csv")
    task = load_task(str(tmp_path))
    assert sorted(task.label_names) == sorted(names) and task.has_test
    assert set(task.rows["split"]) == {"train", "test", "validation"}
    assert any("of no split, and not used: eval.csv" in line for line in task.notes)
