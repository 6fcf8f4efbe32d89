"""Results are read once, exactly, in the experiment's order; what cannot be read is named."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_run, begin, predicted
from scipy.special import softmax

from boundary import BadInput, replacing, write
from evaluation import report, statistics, tables
from evaluation.files import MEASURED
from evaluation.results import Results


@pytest.fixture
def folder(tmp_path):
    begin(tmp_path)
    for seed in (0, 1):
        add(tmp_path, "head", seed, right=20 + seed), add(tmp_path, "lora", seed, right=33 + seed)
    return tmp_path


def test_numbers_come_back_to_the_last_digit(folder):
    add_run(folder, "lora", 2, predicted(np.arange(TESTS) % 2, np.full((TESTS, 2), 1 / 3)))
    path = folder / "lora-seed2" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test_loss": 0.1 + 0.2}))
    results = Results.read(folder)
    assert (results.predictions.logits["lora", 2] == 1 / 3).all()
    assert results.runs.loc["lora-seed2", "test_loss"] == 0.1 + 0.2
    report.write(results)
    runs = pd.read_csv(folder / "runs.csv").set_index(["method", "seed"])
    assert runs.loc[("lora", 2), "test_loss"] == 0.1 + 0.2


def test_intervals_and_comparisons_are_computed_once(folder, monkeypatch):
    calls = []

    def counted(name):
        computed = getattr(statistics, name)
        return lambda *given: calls.append(name) or computed(*given)

    for name in ("compare", "by_method", "_errors"):
        monkeypatch.setattr(statistics, name, counted(name))
    results = Results.read(folder, [str(i) for i in range(TESTS)])
    report.write(results), tables.terminal(results)
    assert sorted(calls) == ["_errors", "by_method", "compare"]


def test_runs_have_the_experiments_order_then_their_names_and_seeds(folder):
    add(folder, "tfidf", 0), add(folder, "adapter", 0)
    begin(folder, constants=EXPERIMENT["constants"] | {"methods": ["lora", "head"]})
    runs = Results.read(folder).runs
    expected = [("lora", 0), ("lora", 1), ("head", 0), ("head", 1), ("adapter", 0), ("tfidf", 0)]
    assert list(zip(runs["method"], runs["seed"], strict=True)) == expected


def test_collected_tables_have_method_and_seed_in_front(folder):
    add(folder, "tfidf", 0)
    results = Results.read(folder)
    assert list(results.steps.columns[:3]) == ["method", "seed", "step"]
    assert len(results.steps) == 4 * 6 and len(results.history) == 4 * 4
    assert set(results.history["method"]) == {"head", "lora"}
    assert set(results.changes["method"]) == {"lora"}
    report.write(results)
    assert pd.read_csv(folder / "history.csv").columns[:2].tolist() == ["method", "seed"]
    assert "hyperparameters" not in pd.read_csv(folder / "runs.csv")


def test_finished_failed_and_unfinished_runs_are_kept_apart(folder):
    add(folder, "adapter", 0, status="failed: the loss is nan")
    (folder / "full-seed0").mkdir()
    (folder / "full-seed0" / "history.csv").write_text("unfinished")
    results = Results.read(folder)
    assert set(results.runs["method"]) == {"head", "lora"}
    assert results.failed["method"].tolist() == ["adapter"]
    report.write(results)
    status = pd.read_csv(folder / "runs.csv").set_index("method")["status"]
    assert status["adapter"] == "failed: the loss is nan" and "full" not in status


@pytest.mark.parametrize("only_failed", [False, True])
def test_a_folder_without_finished_runs_is_said(tmp_path, only_failed):
    begin(tmp_path)
    if only_failed:
        add(tmp_path, "lora", 0, status="failed: the loss is nan")
    with pytest.raises(BadInput, match="no finished runs"):
        Results.read(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("experiment.json", '{"constants": ', r"experiment\.json cannot be read"),
        ("experiment.json", '{"constants": {}}', r"experiment\.json cannot be read.*'model'"),
        ("experiment.json", "7", r"experiment\.json cannot be read"),
        ("head-seed0/run.json", "{}", r"run\.json cannot be read.*'experiment'"),
        ("head-seed0/history.csv", "step\n1\n", r"history\.csv cannot be read.*'epoch'"),
        ("head-seed0/history.csv", "step\nx\n", r"history\.csv cannot be read.*'?x'?"),
        ("head-seed0/predictions.csv", "", r"predictions\.csv cannot be read"),
        ("lora-seed1/predictions.csv", "label,logit_bad,logit_good\n0,1,2\n", "other test reviews"),
        ("misclassified.csv", "review\n1\n", r"misclassified\.csv cannot be read.*'label'"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(folder, file, text, message):
    (folder / file).write_text(text)
    assert re.search(message, refusal(folder))


def refusal(folder):
    """Why these results are refused, in one line."""
    with pytest.raises(BadInput) as caught:
        Results.read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path, *names, value):
    """Set an entry, or one of an entry, of a JSON file."""
    found = json.loads(path.read_text())
    inner = found
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    path.write_text(json.dumps(found))


NAN, INFINITE = float("nan"), float("inf")
RECORDS = [
    *[("test_accuracy", value) for value in (7.5, -0.1, NAN, INFINITE, "0.5", True, [1])],
    *[("train_loss", -1), ("training_seconds", -3.0), ("training_seconds", 10**400)],
    *[("best_step", 0), ("best_step", 7), ("trainable_percentage", 101), ("peak_memory_mib", {})],
    *[("seed", value) for value in (0.5, -1, "0", None, True, 2**63)],
    *[("status", 3), ("status", None), ("method", ["lora"]), ("name", 1), ("baseline", "no")],
    *[("experiment", "another"), ("validation_accuracy", 2), ("hyperparameters", 3)],
    *[("frozen_blocks", -1), ("frozen_blocks", 2.5), ("shared_seconds", -1.0)],
    *[("shared_seconds", INFINITE), ("shared_seconds", "3")],
]


@pytest.mark.parametrize(("name", "value"), RECORDS)
def test_an_impossible_entry_of_a_run_is_named_with_its_file(folder, name, value):
    edit(folder / "lora-seed0" / "run.json", name, value=value)
    message = refusal(folder)
    assert message.startswith(f"{folder / 'lora-seed0' / 'run.json'}")
    assert name in message and repr(value)[:50] in message


@pytest.mark.parametrize("blocks", [-1, 1.5, "2"])
def test_an_impossible_number_of_blocks_is_named_with_its_file(folder, blocks):
    path = folder / "lora-seed0" / "run.json"
    edit(path, "hyperparameters", "blocks", value=blocks)
    assert refusal(folder).startswith(f"{path}: blocks is {blocks!r}, expected a whole number")


ABOUT = [
    *[(["constants"], 3), (["constants"], None), (["data"], []), (["model"], 7), (["command"], 1)],
    *[(["label_names"], names) for names in ("bad", ["bad", 1], ["bad", "bad"], [["bad"], "good"])],
    *[(["constants", "methods"], "lora"), (["constants", "max_tokens"], "8")],
    *[(["data", "test"], 0), (["data", "train"], 1.5), (["data", "test_share_truncated"], 25)],
    *[(["data", "notes"], [1]), (["libraries"], ["torch"]), (["device"], 0)],
]


@pytest.mark.parametrize(("names", "value"), ABOUT)
def test_an_impossible_entry_of_the_experiment_is_named_with_its_file(folder, names, value):
    edit(folder / "experiment.json", *names, value=value)
    expected = f"{folder / 'experiment.json'}: {names[-1]} is {value!r}, expected "
    assert refusal(folder).startswith(expected)


CELLS = [
    ("history", "validation_accuracy", 7.5),
    ("history", "validation_loss", -0.5),
    ("history", "train_loss", NAN),
    ("history", "seconds", INFINITE),
    ("history", "step", 0),
    ("history", "step", 99),  # the others come after it
    ("steps", "gradient_norm", -1.0),
    ("steps", "loss", NAN),
    ("steps", "step", 3),  # twice
    ("changes", "block", -1),
    ("changes", "relative_size", -0.5),
    ("predictions", "label", 2),
    ("predictions", "label", -1),
    ("predictions", "logit_bad", NAN),
    ("predictions", "logit_good", -INFINITE),
]


@pytest.mark.parametrize(("table", "column", "value"), CELLS)
def test_an_impossible_cell_is_named_with_its_file_and_column(folder, table, column, value):
    path = folder / "lora-seed0" / f"{table}.csv"
    frame = pd.read_csv(path)
    frame.loc[1, column] = value
    frame.to_csv(path, index=False)
    message = refusal(folder)
    assert message.startswith(f"{path}: {column} is ") and ", expected " in message
    if value not in (99, 3):
        assert f" is {value}, " in message


@pytest.mark.parametrize(
    ("row", "message"),
    [("40,bad,good,0.9,x", "review is 40, expected one of 40 reviews"), ("0,a,b,1.5,x", "is 1.5")],
)
def test_impossible_misclassified_reviews_are_named(folder, row, message):
    path = folder / "misclassified.csv"
    path.write_text(f"review,label,predicted,confidence,text\n{row}\n")
    assert refusal(folder).startswith(f"{path}: ") and message in refusal(folder)


def test_accuracies_that_the_predictions_do_not_have_are_refused(folder):
    edit(folder / "lora-seed0" / "run.json", "test_accuracy", value=32 / 40)
    assert "run.json: test_accuracy is 0.8, and of predictions.csv 0.825" in refusal(folder)
    edit(folder / "lora-seed0" / "run.json", "test_accuracy", value=None)
    assert "run.json: test_accuracy is nan, and" in refusal(folder)


def test_numbers_that_a_run_has_not_may_be_null(folder):
    add(folder, "tfidf", 0)
    for name in MEASURED.keys() - {"test_accuracy"}:
        edit(folder / "lora-seed0" / "run.json", name, value=None)
    assert "other_load" in MEASURED and len(Results.read(folder).runs) == 5


def test_what_runs_share_is_read_where_it_is_recorded_and_kept_in_the_table(folder):
    report.write(Results.read(folder))
    new = {"frozen_blocks", "shared_seconds", "blocks"}
    assert not new & set(pd.read_csv(folder / "runs.csv"))  # as they were before there was any
    add(folder, "tfidf", 0, record={"frozen_blocks": None, "shared_seconds": None})
    add(folder, "full", 0, record={"frozen_blocks": 4, "shared_seconds": 0.1 + 0.2})
    edit(folder / "full-seed0" / "run.json", "hyperparameters", value={"blocks": 2, "rank": "x"})
    report.write(Results.read(folder))
    runs = pd.read_csv(folder / "runs.csv").set_index("method")
    assert runs.loc["full", ["frozen_blocks", "blocks"]].tolist() == [4, 2]
    assert runs.loc["full", "shared_seconds"] == 0.1 + 0.2
    assert runs.loc[["tfidf", "head"], sorted(new)].isna().all(axis=None)


FILES = ["run.json", "history.csv", "steps.csv", "changes.csv", "predictions.csv"]
FILES = ["experiment.json", "misclassified.csv", *(f"lora-seed0/{name}" for name in FILES)]


@pytest.mark.parametrize("file", FILES)
def test_a_folder_in_the_place_of_a_file_is_named(folder, file):
    (folder / file).unlink(missing_ok=True)
    (folder / file).mkdir()
    message = refusal(folder)
    assert f"{folder / file} cannot be read" in message and "Errno" not in message


@pytest.mark.parametrize("file", FILES)
def test_whatever_stops_the_reading_is_bad_input_with_the_file(folder, file, monkeypatch):
    wrong = Results.read(folder, [str(i) for i in range(TESTS)]).misclassified
    wrong.to_csv(folder / "misclassified.csv", index=False)

    def broken(read):
        def reader(path, *given, **more):
            if Path(path) == folder / file:
                raise RuntimeError("nobody has foreseen this")
            return read(path, *given, **more)

        return reader

    monkeypatch.setattr(pd, "read_csv", broken(pd.read_csv))
    monkeypatch.setattr(Path, "read_text", broken(Path.read_text))
    assert f"{folder / file} cannot be read (RuntimeError: nobody" in refusal(folder)


def test_texts_that_look_like_nothing_stay_texts(tmp_path):
    names = ["NA", "None", "nan", "null", ""]
    constants = EXPERIMENT["constants"] | {"methods": ["None", "nan", "lora"]}
    begin(tmp_path, label_names=names, constants=constants)
    for method in constants["methods"]:
        add(tmp_path, method, 0, right=0, labels=names)
    add(tmp_path, "null", 0, status="NA")
    for path in (tmp_path / "lora-seed0").glob("changes.csv"):
        path.write_text(path.read_text().replace(",q,", ",NA,").replace(",o,", ",,"))
    report.write(Results.read(tmp_path, (names * TESTS)[:TESTS]))
    results = Results.read(tmp_path)
    wrong = results.misclassified.sort_values("review")
    assert wrong["text"].tolist() == wrong["label"].tolist() == (names * TESTS)[:TESTS]
    assert set(wrong["predicted"]) == set(names)
    assert set(results.changes["place"]) == {"NA", ""}

    def written(table):
        return pd.read_csv(tmp_path / f"{table}.csv", keep_default_na=False)

    assert written("runs")["method"].tolist() == ["None", "nan", "lora", "null"]
    assert written("runs")["status"].iloc[-1] == "NA"
    assert list(dict.fromkeys(written("history")["method"])) == ["None", "nan", "lora"]
    assert set(written("changes")["place"]) == {"NA", ""}


def test_predictions_of_other_reviews_are_refused(folder):
    (folder / "lora-seed1" / "predictions.csv").unlink()
    with pytest.raises(BadInput, match=r"lora-seed1/predictions\.csv is missing"):
        Results.read(folder)
    add_run(folder, "lora", 1, predicted(np.arange(1, TESTS + 1) % 2, np.eye(2)[[0] * TESTS]))
    with pytest.raises(BadInput, match="lora-seed1/predictions.csv has other test reviews"):
        Results.read(folder)


def test_a_copy_of_a_run_is_no_second_seed(folder):
    (folder / "lora-seed1").rename(folder / "copy")
    add(folder, "lora", 1)
    with pytest.raises(BadInput, match="a run that another folder holds too"):
        Results.read(folder)


def test_misclassified_are_the_reviews_that_every_seed_of_every_method_gets_wrong(tmp_path):
    """Review 1 is right once and 3 twice; of review 4, the mean of all would say the truth."""
    names = ("a", "b", "None")
    begin(tmp_path, label_names=list(names), data={"train": 9, "validation": 3, "test": 5})
    doubt, other = [2, 2.1, 0], [2, 0, 2.1]
    first = np.array([[0, 1, 0], [2, 0, 0], [9, 0, 0], [1, 0, 0], doubt])
    second = np.array([[0, 0, 3], [0, 2, 0], [9, 0, 0], [0, 1, 0], other])
    third = np.array([[0, 2, 0], [2, 0, 0], [9, 0, 0], [1, 0, 0], doubt])
    labels = np.array([0, 1, 2, 0, 0])
    for method, seed, logits in (("head", 0, first), ("head", 1, second), ("tfidf", 0, third)):
        add_run(tmp_path, method, seed, predicted(labels, logits, names))
    texts = ["zero\r\n|", "one", 'two, "2" 🙂', "three", "four"]
    found = Results.read(tmp_path, texts).misclassified
    assert found["review"].tolist() == [2, 0, 4]
    assert found["label"].tolist() == ["None", "a", "a"]
    assert found["predicted"].tolist() == ["a", "b", "b"]

    def of_b(*runs):  # a method's seeds first, then the methods
        one, two, three = (softmax(logits)[1] for logits in runs)
        return ((one + two) / 2 + three) / 2

    expected = [softmax([9, 0, 0])[0], of_b(first[0], second[0], third[0])]
    expected.append(of_b(doubt, other, doubt))
    np.testing.assert_allclose(found["confidence"], expected, rtol=1e-12)
    assert Results.read(tmp_path).misclassified is None
    report.write(Results.read(tmp_path, texts))
    assert Results.read(tmp_path).misclassified.equals(found)  # text letter by letter
    with pytest.raises(BadInput, match="4 test reviews for 5 predictions"):
        Results.read(tmp_path, texts[:-1])


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert not path.exists()
    assert write(path, "one\n").read_text() == "one\n"
    with replacing(path) as part:
        part.write_text("two\n")
        assert path.read_text() == "one\n"
    assert path.read_text() == "two\n" and not list(tmp_path.rglob("*.part"))
