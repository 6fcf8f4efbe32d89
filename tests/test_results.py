"""Results are read once, exactly, in the experiment's order; what cannot be read is named."""

import json

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_run, begin, predicted
from scipy.special import softmax

from boundary import replacing, write
from evaluation import report, statistics, tables
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
    with pytest.raises(ValueError, match="no finished runs"):
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
    with pytest.raises(ValueError, match=message):
        Results.read(folder)


def test_predictions_of_other_reviews_are_refused(folder):
    (folder / "lora-seed1" / "predictions.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"lora-seed1/predictions\.csv is missing"):
        Results.read(folder)
    add_run(folder, "lora", 1, predicted(np.arange(1, TESTS + 1) % 2, np.eye(2)[[0] * TESTS]))
    with pytest.raises(ValueError, match="lora-seed1/predictions.csv has other test reviews"):
        Results.read(folder)


def test_a_copy_of_a_run_is_no_second_seed(folder):
    (folder / "lora-seed1").rename(folder / "copy")
    add(folder, "lora", 1)
    with pytest.raises(ValueError, match="a run that another folder holds too"):
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
    with pytest.raises(ValueError, match="4 test reviews for 5 predictions"):
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
