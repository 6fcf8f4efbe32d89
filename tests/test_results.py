"""Results are read once, exactly, in the experiment's order; what cannot be read is named."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up import (
    EXPERIMENT,
    TESTS,
    add,
    add_folds,
    add_run,
    begin,
    begin_folds,
    predicted,
)
from scipy.special import softmax
from sklearn.metrics import f1_score

from boundary import BadInput
from evaluation import answer, report, statistics, tables
from evaluation.results import Results
from studies import compact
from studies.compact import logits_of


@pytest.fixture(autouse=True)
def without_drawing(request):
    if "figures" not in request.node.name:
        request.getfixturevalue("without_figures")


@pytest.fixture
def folder(tmp_path):
    begin(tmp_path)
    for seed in (0, 1):
        add(tmp_path, "head", seed, right=20 + seed), add(tmp_path, "lora", seed, right=33 + seed)
    return tmp_path


def edit(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_numbers_come_back_to_the_last_digit(folder):
    third = np.float32(1 / 3)
    add_run(folder, "lora", 2, predicted(np.arange(TESTS) % 2, np.full((TESTS, 2), third)))
    edit(folder / "lora-seed2" / "run.json", scores={"test_loss": 0.1 + 0.2})
    results = Results.read(folder)
    assert (results.predictions.logits["lora", 2] == third).all()
    assert results.runs.iloc[-1]["test_loss"] == 0.1 + 0.2
    report.write(results)
    runs = pd.read_csv(folder / "runs.csv")
    assert runs.iloc[-1]["test_loss"] == 0.1 + 0.2


def test_intervals_and_comparisons_are_computed_once(folder, monkeypatch):
    calls, computed = [], statistics._estimate
    monkeypatch.setattr(statistics, "_estimate", lambda *of: calls.append(of) or computed(*of))
    results = Results.read(folder)
    report.write(results), tables.terminal(results)
    assert len(calls) == 2 * (2 + 1)  # of two metrics: two methods, and one pair


def test_each_metric_has_an_interval_and_a_difference(folder):
    """Labels alternate and are guessed right or wrong as often: macro-F1 is accuracy."""
    results = Results.read(folder)
    row = results.intervals.set_index("method").loc["head"]
    assert (
        row["accuracy"] == pytest.approx(20.5 / TESTS) == pytest.approx(row["macro_f1"], abs=0.01)
    )
    assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"]
    pair = results.comparisons.iloc[0]
    assert pair["difference"] == pair["accuracy_difference"] == pytest.approx(13 / TESTS)
    assert pair["macro_f1_low"] < pair["macro_f1_difference"] < pair["macro_f1_high"]
    begin(folder, constants=EXPERIMENT["constants"] | {"metric": "macro_f1"})
    planned = Results.read(folder).comparisons.iloc[0]
    assert planned["difference"] == pair["macro_f1_difference"]


def test_with_folds_a_methods_score_is_that_of_all_texts_each_tested_once(tmp_path):
    rng, groups = np.random.default_rng(0), np.arange(120) // 4
    truth = rng.integers(0, 2, 120)
    each = {m: np.eye(2)[truth] + rng.normal(size=(120, 2)) for m in ("head", "lora")}
    data = {"folds": 3, "texts": 120, "groups": {"train": 20}}
    begin(tmp_path, data=EXPERIMENT["data"] | data)
    for method, logits in each.items():
        add_folds(tmp_path, method, 3, truth, logits, groups=groups)
    for results in (Results.read(tmp_path), again(tmp_path)):
        assert results.predictions.labels.tolist() == truth.tolist() and results.is_folds
        for row in results.intervals.itertuples():
            predicted = each[row.method].astype(np.float32).argmax(1)
            assert row.accuracy == pytest.approx((predicted == truth).mean())
            assert row.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
        assert "groups of texts, each tested once" in results.comparisons["test"][0]
        assert "each text tested once" in results.covers
    (tmp_path / "lora-seed1" / "run.json").unlink()  # an unfinished experiment
    results = Results.read(tmp_path)
    rows = np.flatnonzero(groups % 3 != 1)
    head, lora = ((each[m].argmax(1) == truth)[rows].mean() for m in ("head", "lora"))
    pair = results.comparisons.iloc[0]
    assert abs(pair["difference"]) == pytest.approx(abs(head - lora), abs=1e-9)


def test_a_run_that_gives_every_text_one_label_is_collapsed(folder):
    add_run(folder, "lora", 2, predicted(np.arange(TESTS) % 2, np.eye(2)[[1] * TESTS]))
    assert Results.read(folder).runs["collapsed"].tolist() == [False] * 4 + [True]


def test_runs_have_the_experiments_order_then_their_names_and_seeds(folder):
    add(folder, "tfidf", 0), add(folder, "adapter", 0)
    begin(folder, constants=EXPERIMENT["constants"] | {"methods": ["lora", "head"]})
    runs = Results.read(folder).runs
    expected = [("lora", 0), ("lora", 1), ("head", 0), ("head", 1), ("adapter", 0), ("tfidf", 0)]
    assert list(zip(runs["method"], runs["seed"], strict=True)) == expected


def test_collected_tables_have_method_and_seed_in_front(folder):
    add(folder, "tfidf", 0)
    results = Results.read(folder)
    assert len(results.history) == 4 * 4 and set(results.history["method"]) == {"head", "lora"}
    report.write(results)
    assert pd.read_csv(folder / "history.csv").columns[:2].tolist() == ["method", "seed"]


def test_finished_failed_and_unfinished_runs_are_kept_apart(folder):
    add(folder, "adapter", 0, status="failed: the loss is nan")
    (folder / "full-seed0").mkdir()
    (folder / "full-seed0" / "history.csv").write_text("unfinished")
    results = Results.read(folder)
    assert set(results.runs["method"]) == {"head", "lora"}
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
        ("head-seed0/predictions.csv", "", r"predictions\.csv cannot be read"),
        ("head-seed0/predictions.csv", None, r"No such file.*predictions"),
        (
            "lora-seed1/predictions.csv",
            "row,label,logit_bad,logit_good\n0,0,1,2\n",
            "different texts",
        ),
        ("misclassified.csv", "row\n1\n", r"misclassified\.csv cannot be read.*'label'"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(folder, file, text, message):
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(BadInput) as caught:
        report.rewrite(folder)
    assert "\n" not in str(caught.value) and re.search(message, str(caught.value))


def test_texts_that_look_like_nothing_stay_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(answer, "WRONG", TESTS)
    names = ["NA", "None", "nan", "null", ""]
    constants = EXPERIMENT["constants"] | {"methods": ["None", "nan", "lora"]}
    begin(tmp_path, label_names=names, constants=constants)
    for method in constants["methods"]:
        add(tmp_path, method, 0, right=0, labels=names)
    report.write(Results.read(tmp_path, (names * TESTS)[:TESTS]))
    wrong = Results.read(tmp_path).misclassified
    assert wrong["text"].tolist() == [names[row % 5] for row in wrong["row"]]
    assert wrong["label"].tolist() == wrong["text"].tolist()
    assert set(wrong["label"]) == set(wrong["predicted"]) == set(names)
    for results in (Results.read(tmp_path), again(tmp_path)):
        assert results.runs["method"].tolist() == ["None", "nan", "lora"]


def again(folder):
    """The results of the compact form."""
    compact.compact(folder, folder / "compact")
    return compact.read(folder / "compact")


@pytest.mark.parametrize("is_folds", [False, True])
def test_predictions_of_other_texts_are_refused(folder, is_folds):
    add_run(folder, "lora", 1, predicted(np.arange(1, TESTS + 1) % 2, np.eye(2)[[0] * TESTS]))
    if is_folds:  # every seed has tested all of them
        begin_folds(folder, 2)
    with pytest.raises(BadInput, match="have tested different texts"):
        Results.read(folder)


def test_misclassified_texts_are_kept_in_one_line_each_with_their_rows(folder):
    """Those of LoRA, the best method: one seed is wrong from text 33 on, the other from 34 on."""
    texts = [f"{i}\r\n| 🙂 " + "and more " * 99 for i in range(TESTS)]
    report.write(Results.read(folder, pd.Series(texts, range(2, TESTS + 2))))  # after a header
    found = Results.read(folder).misclassified
    found["row"] -= 2
    assert set(found["row"]) == set(range(33, TESTS)) and not found["row"].duplicated().any()
    for row in found.itertuples():
        assert row.text.startswith(f"{row.row} | 🙂 and") and len(row.text) <= 200
        assert (row.label, row.predicted) == (
            ("bad", "good")[row.row % 2],
            ("good", "bad")[row.row % 2],
        )
    assert found["confidence"].tolist() == pytest.approx([softmax([2, 0])[0]] * len(found))


def test_the_compact_form_says_the_same_and_makes_the_same_page_again(folder):
    add(folder, "tfidf", 0), add(folder, "adapter", 0, status="failed: the loss is nan")
    report.write(Results.read(folder, [f"review {i}" for i in range(TESTS)]))
    results, kept = Results.read(folder), again(folder)
    assert {path.name for path in kept.folder.iterdir()} == {
        *("experiment.json", "runs.csv", "predictions.parquet", "report.md", "report.html")
    }
    assert kept.records == results.records
    pd.testing.assert_frame_equal(kept.comparisons, results.comparisons)
    pd.testing.assert_frame_equal(kept.runs, results.runs)
    for key, logits in results.predictions.logits.items():
        found, exact = (softmax(each, axis=1) for each in (kept.predictions.logits[key], logits))
        assert np.array_equal(found.argmax(1), exact.argmax(1))
        assert np.abs(found.max(1) - exact.max(1)).max() < 5.1e-5
    confidence = pd.read_parquet(kept.folder / "predictions.parquet")["confidence"]
    assert confidence.equals(confidence.round(4))
    page = (kept.folder / "report.md").read_bytes()
    assert compact.main([str(kept.folder)]) == 0
    assert (kept.folder / "report.md").read_bytes() == page
    (folder / "misclassified.csv").unlink()
    results = replace(results, experiment=kept.experiment)  # without RESULTS
    assert page.decode() == report.page(results, {})


def test_the_compact_form_does_not_say_in_which_folder_it_was_made(folder):
    constants = EXPERIMENT["constants"] | {"results": "/data/my results"}
    command = "python finetuning.py --results '/data/my results' --epochs 1"
    command = f"{command} && python finetuning.py --epochs 1 --results /data/mine"
    begin(folder, constants=constants, command=command)
    about = json.loads((again(folder).folder / "experiment.json").read_text())
    assert about["constants"] == constants | {"results": "results"}
    assert about["command"] == "python finetuning.py --epochs 1 && python finetuning.py --epochs 1"


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_logits_of_the_compact_form_have_its_predictions_and_confidences(classes):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(classes, 0.3), 500)
    shares[:2] = np.eye(classes)[0], np.full(classes, 1 / classes)  # sure, and a tie
    predicted, confidence = shares.argmax(1), shares.max(1).astype(np.float32)
    predicted[1] = classes - 1  # as float32 may leave it
    names = [str(label) for label in range(classes)]
    logits = logits_of(predicted, pd.Series(confidence), names).to_numpy(np.float32)
    assert np.array_equal(logits.argmax(1), predicted)
    assert np.abs(softmax(logits, axis=1).max(1) - confidence).max() < 1e-6


def test_a_compact_experiment_shows_the_figures_that_are_there(folder):
    kept = again(folder)
    (kept.folder / "accuracies.png").write_bytes(b"old")
    names = {path.name for path in compact.show(kept.folder)}
    assert names == {"accuracies.png", "report.md", "report.html"}
    assert (kept.folder / "accuracies.png").read_bytes().startswith(b"\x89PNG")
    assert "(accuracies.png)" in (kept.folder / "report.md").read_text(encoding="utf-8")


def test_a_damaged_table_is_named(folder):
    kept = again(folder).folder
    (kept / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"predictions\.parquet cannot be read"):
        compact.read(kept)
    with pytest.raises(BadInput, match=r"give it to python -m studies\.compact"):
        Results.read(kept)


@pytest.mark.parametrize("option", ["--results '/data/o'\"'\"'brien x'", "--results=/home/me/x"])
def test_no_form_of_results_stays_in_a_compact_command(folder, option):
    begin(folder, command=f"python finetuning.py --methods 'lora(rank=4)' {option} --seeds 0")
    about = json.loads((again(folder).folder / "experiment.json").read_text())
    assert about["command"] == "python finetuning.py --methods 'lora(rank=4)' --seeds 0"


@pytest.mark.parametrize("arguments", [[], ["missing"], ["missing", "to"]])
def test_what_cannot_be_made_compact_is_one_line(arguments, capsys):
    assert compact.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
