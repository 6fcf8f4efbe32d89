"""Results are read once, exactly, in the experiment's order; what cannot be read is named."""

import re

import numpy as np
import pandas as pd
import pytest
from made_up import TESTS, add, add_folds, add_run, begin, begin_folds, predicted
from sklearn.metrics import f1_score

from boundary import BadInput
from evaluation import errors, report
from evaluation.metrics import calibration_error
from evaluation.results import Results

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def folder(tmp_path):
    begin(tmp_path)
    for seed in (0, 1):
        add(tmp_path, "head", seed, right=20 + seed), add(tmp_path, "lora", seed, right=33 + seed)
    return tmp_path


def test_numbers_come_back_to_the_last_digit_and_one_label_for_all_is_a_collapse(folder):
    third = np.float32(1 / 3)
    table = predicted(np.arange(TESTS) % 2, np.full((TESTS, 2), third))
    add_run(folder, "lora", 2, table, record={"scores": {"test_loss": 0.1 + 0.2}})
    results = Results.read(folder)
    assert (results.predictions.logits["lora"][2] == third).all()
    assert results.runs.iloc[-1]["test_loss"] == 0.1 + 0.2
    assert results.runs["collapsed"].tolist() == [False] * 4 + [True]
    report.write(results)
    assert pd.read_csv(folder / "runs.csv").iloc[-1]["test_loss"] == 0.1 + 0.2
    history = pd.read_csv(folder / "history.csv")
    assert history.columns[:2].tolist() == ["method", "seed"] and len(history) == 5 * 4


@pytest.mark.filterwarnings("error")
def test_results_of_150_labels_are_read_without_a_warning(tmp_path):
    labels = [f"intent {i}" for i in range(150)]
    begin(tmp_path, label_names=labels)
    add(tmp_path, "head", 0, labels=labels)
    assert Results.read(tmp_path).predictions.logits["head"][0].shape == (TESTS, 150)


def test_each_metric_has_an_interval_and_a_difference(folder):
    """Labels alternate and are guessed right or wrong as often: macro-F1 is accuracy."""
    results = Results.read(folder)
    row = results.intervals.set_index("method").loc["head"]
    assert row["accuracy"] == pytest.approx(20.5 / TESTS)
    assert row["macro_f1"] == pytest.approx(row["accuracy"], abs=0.01)
    assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"]
    pair = results.comparisons.iloc[0]
    assert pair["difference"] == pair["accuracy_difference"] == pytest.approx(13 / TESTS)
    assert pair["macro_f1_low"] < pair["macro_f1_difference"] < pair["macro_f1_high"]
    begin(folder, constants={"metric": "macro_f1"})
    planned = Results.read(folder).comparisons.iloc[0]
    assert planned["difference"] == pair["macro_f1_difference"]


def test_with_folds_a_methods_score_is_that_of_all_texts_each_tested_once(tmp_path):
    rng, groups = np.random.default_rng(0), np.arange(120) // 4
    truth = rng.integers(0, 2, 120)
    each = {m: np.eye(2)[truth] + rng.normal(size=(120, 2)) for m in ("head", "lora")}
    begin(tmp_path, data={"folds": 3, "texts": 120, "groups": {"train": 20}})
    for method, logits in each.items():
        add_folds(tmp_path, method, 3, truth, logits, groups=groups)
    results = Results.read(tmp_path)
    assert results.predictions.labels.tolist() == truth.tolist() and results.is_folds
    assert pd.factorize(results.predictions.groups)[0].tolist() == groups.tolist()
    for row in results.intervals.itertuples():
        guess = each[row.method].astype(np.float32).argmax(1)
        assert row.accuracy == pytest.approx((guess == truth).mean())
        assert row.macro_f1 == pytest.approx(f1_score(truth, guess, average="macro"))
        mean, logits = results.means.loc[row.method], each[row.method].astype(np.float32)
        assert mean["test_macro_f1"] == pytest.approx(row.macro_f1)
        assert mean["test_calibration_error"] == pytest.approx(calibration_error(truth, logits))
    assert "groups of texts, each tested once" in results.comparisons["test"][0]
    assert "each text tested once" in results.covers
    (tmp_path / "lora-seed1" / "run.json").unlink()  # an unfinished experiment
    rows = np.flatnonzero(groups % 3 != 1)
    head, lora = ((each[m].argmax(1) == truth)[rows].mean() for m in ("head", "lora"))
    pair = Results.read(tmp_path).comparisons.iloc[0]
    assert abs(pair["difference"]) == pytest.approx(abs(head - lora), abs=1e-9)


def test_runs_have_the_experiments_order_and_failed_and_unfinished_ones_are_kept_apart(folder):
    add(folder, "tfidf", 0), add(folder, "bitfit", 0)
    add(folder, "adapter", 0, status="failed: the loss is nan")
    (folder / "full-seed0").mkdir()
    (folder / "full-seed0" / "history.csv").write_text("unfinished")
    begin(folder, constants={"methods": ["lora", "head"]})
    results = Results.read(folder)
    expected = [("lora", 0), ("lora", 1), ("head", 0), ("head", 1), ("bitfit", 0), ("tfidf", 0)]
    assert list(results.runs[["method", "seed"]].itertuples(index=False, name=None)) == expected
    assert [run.method for run in results.records if not run.is_finished] == ["adapter"]
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
        ("experiment.json", '{"runs": ', r"experiment\.json cannot be read"),
        ("experiment.json", '{"runs": ["head-seed0"]}', r"experiment\.json cannot be read.*model"),
        ("experiment.json", None, "has no finished runs"),
        ("head-seed0/run.json", '{"status": 3}', r"run\.json cannot be read.*status"),
        ("head-seed0/history.csv", "step\n1\n", r"history\.csv cannot be read.*'epoch'"),
        ("head-seed0/history.csv", "step\nx\n", r"history\.csv cannot be read.*'?x'?"),
        ("head-seed0/predictions.csv", "", r"predictions\.csv cannot be read.*make that run anew"),
        ("head-seed0/predictions.csv", None, r"No such file.*predictions"),
        ("misclassified.csv", "row\n1\n", r"misclassified\.csv .*'label'.*; delete that file"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(folder, file, text, message):
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(BadInput) as caught:
        report.rewrite(folder)
    assert "\n" not in str(caught.value) and re.search(message, str(caught.value))


@pytest.mark.parametrize("is_folds", [False, True])
@pytest.mark.parametrize("fault", ["other labels", "fewer texts"])
def test_predictions_of_other_texts_are_refused(tmp_path, is_folds, fault):
    begin_folds(tmp_path, 2 if is_folds else None)
    for method in ("head", "lora"):
        add_folds(tmp_path, method, 1 + is_folds, np.arange(TESTS) % 2, np.zeros((TESTS, 2)))
    path = tmp_path / "lora-seed0" / "predictions.csv"
    table = pd.read_csv(path)
    table = table[1:] if fault == "fewer texts" else table.assign(label=1 - table["label"])
    table.to_csv(path, index=False)
    with pytest.raises(BadInput, match="have tested different texts"):
        Results.read(tmp_path)


def test_texts_that_look_like_nothing_stay_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "WRONG", TESTS)
    names = ["NA", "None", "nan", "null", ""]
    methods = ["None", "nan", "lora"]
    begin(tmp_path, label_names=names, constants={"methods": methods})
    for method in methods:
        add(tmp_path, method, 0, right=0, labels=names)
    report.write(Results.read(tmp_path, (names * TESTS)[:TESTS]))
    results = Results.read(tmp_path)
    wrong = errors.misclassified(results)
    assert wrong["text"].tolist() == [names[int(row) % 5] for row in wrong["row"]]
    assert wrong["label"].tolist() == wrong["text"].tolist()
    assert set(wrong["label"]) == set(wrong["predicted"]) == set(names)
    assert results.runs["method"].tolist() == methods


def test_misclassified_texts_are_kept_in_one_line_each_with_their_rows(folder):
    """Those of LoRA, the best method: one seed is wrong from text 33 on, the other from 34 on."""
    texts = [f"{i}\r\n| 🙂 " + "and more " * 99 for i in range(TESTS)]
    places = [f"test {i + 2}" for i in range(TESTS)]  # after a header
    report.write(Results.read(folder, pd.Series(texts, places)))
    found = errors.misclassified(Results.read(folder))
    rows = found["row"].str.removeprefix("test ").astype(int) - 2
    assert set(rows) == set(range(33, TESTS)) and rows.is_unique
    assert found["label"].tolist() == [("bad", "good")[row % 2] for row in rows]
    assert found["predicted"].tolist() == [("good", "bad")[row % 2] for row in rows]
    for row, text in zip(rows, found["text"], strict=True):
        assert text.startswith(f"{row} | 🙂 and") and len(text) <= 200
    assert found["confidence"].tolist() == pytest.approx([1 / (1 + np.exp(-2))] * len(found))
    add(folder, "adapter", 0, right=TESTS)  # better than LoRA: its errors are others
    assert errors.misclassified(Results.read(folder)) is None
