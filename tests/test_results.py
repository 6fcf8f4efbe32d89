"""Results are read once, exactly, in the experiment's order; what cannot be read is named."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_run, add_tuning, begin, predicted
from scipy.special import softmax

from boundary import BadInput, replacing, write
from evaluation import compact, report, statistics, tables
from evaluation import results as results_module
from evaluation.results import Results


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
    edit(folder / "lora-seed2" / "run.json", test_loss=0.1 + 0.2)
    results = Results.read(folder)
    assert (results.predictions.logits["lora", 2] == third).all()
    assert results.runs.iloc[-1]["test_loss"] == 0.1 + 0.2
    report.write(results)
    runs = pd.read_csv(folder / "runs.csv")
    assert runs.iloc[-1]["test_loss"] == 0.1 + 0.2


def test_intervals_and_comparisons_are_computed_once(folder, monkeypatch):
    calls = []

    def counted(name):
        computed = getattr(statistics, name)
        return lambda *given: calls.append(name) or computed(*given)

    for name in ("_compare_two", "by_method", "_errors"):
        monkeypatch.setattr(statistics, name, counted(name))
    results = Results.read(folder, [str(i) for i in range(TESTS)])
    report.write(results), tables.terminal(results)
    assert sorted(calls) == ["_compare_two", "_errors", "by_method"]


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
        ("experiment.json", None, r"No such file.*experiment"),
        ("head-seed0/run.json", "{}", r"run\.json cannot be read.*experiment"),
        ("head-seed0/run.json", '{"status": 3}', r"run\.json cannot be read.*status"),
        ("head-seed0/history.csv", "step\n1\n", r"history\.csv cannot be read.*'epoch'"),
        ("head-seed0/history.csv", "step\nx\n", r"history\.csv cannot be read.*'?x'?"),
        ("head-seed0/predictions.csv", "", r"predictions\.csv cannot be read"),
        ("head-seed0/predictions.csv", None, r"No such file.*predictions"),
        ("lora-seed1/predictions.csv", "label,logit_bad,logit_good\n0,1,2\n", "other test reviews"),
        ("misclassified.csv", "review\n1\n", r"misclassified\.csv cannot be read.*'label'"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(folder, file, text, message):
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(BadInput) as caught:
        Results.read(folder)
    assert "\n" not in str(caught.value) and re.search(message, str(caught.value))


def test_texts_that_look_like_nothing_stay_texts(tmp_path):
    names = ["NA", "None", "nan", "null", ""]
    constants = EXPERIMENT["constants"] | {"methods": ["None", "nan", "lora"]}
    begin(tmp_path, label_names=names, constants=constants)
    for method in constants["methods"]:
        add(tmp_path, method, 0, right=0, labels=names)
    report.write(Results.read(tmp_path, (names * TESTS)[:TESTS]))
    wrong = Results.read(tmp_path).misclassified.sort_values("review")
    assert wrong["text"].tolist() == wrong["label"].tolist() == (names * TESTS)[:TESTS]
    assert set(wrong["predicted"]) == set(names)
    for results in (Results.read(tmp_path), again(tmp_path)):
        assert results.runs["method"].tolist() == ["None", "nan", "lora"]


def again(folder):
    """The results of the compact form."""
    compact.compact(folder, folder / "compact")
    return Results.read(folder / "compact")


def test_predictions_of_other_reviews_are_refused(folder):
    add_run(folder, "lora", 1, predicted(np.arange(1, TESTS + 1) % 2, np.eye(2)[[0] * TESTS]))
    with pytest.raises(BadInput, match="lora with seed 1 has other test reviews"):
        Results.read(folder)


def test_misclassified_are_the_reviews_that_every_seed_of_every_method_gets_wrong(tmp_path):
    """Review 1 is right once and 3 twice; of review 4, the mean of all would say the truth."""
    names = ("a", "b", "None")
    begin(
        tmp_path,
        label_names=list(names),
        data={"train": 9, "validation": 3, "test": 5} | {"test_share_truncated": 0.0},
    )
    doubt, other = [2, 2.1, 0], [2, 0, 2.1]
    first = np.array([[0, 1, 0], [2, 0, 0], [9, 0, 0], [1, 0, 0], doubt])
    second = np.array([[0, 0, 3], [0, 2, 0], [9, 0, 0], [0, 1, 0], other])
    third = np.array([[0, 2, 0], [2, 0, 0], [9, 0, 0], [1, 0, 0], doubt])
    labels = np.array([0, 1, 2, 0, 0])
    for method, seed, logits in (("head", 0, first), ("head", 1, second), ("tfidf", 0, third)):
        add_run(tmp_path, method, seed, predicted(labels, logits, names))
    texts = ["zero\r\n|", "one", 'two, "2" 🙂 ' + "and more " * 99, "three", "four"]
    found = Results.read(tmp_path, texts).misclassified
    assert found["review"].tolist() == [2, 0, 4]
    assert found["label"].tolist() == ["None", "a", "a"]
    assert found["predicted"].tolist() == ["a", "b", "b"]

    def of_b(*runs):  # a method's seeds first, then the methods
        one, two, three = (softmax(np.float32(logits).astype(float))[1] for logits in runs)
        return ((one + two) / 2 + three) / 2

    expected = [softmax([9, 0, 0])[0], of_b(first[0], second[0], third[0])]
    expected.append(of_b(doubt, other, doubt))
    assert found["confidence"].tolist() == pytest.approx(expected, rel=1e-12)
    assert found["text"][0].startswith('two, "2" 🙂 and') and len(found["text"][0]) <= 60
    report.write(Results.read(tmp_path, texts))
    pd.testing.assert_frame_equal(Results.read(tmp_path).misclassified, found)
    with pytest.raises(BadInput, match="4 test reviews for 5 predictions"):
        Results.read(tmp_path, texts[:4])


def test_the_compact_form_says_the_same_and_makes_the_same_page_again(folder):
    add(folder, "tfidf", 0), add(folder, "adapter", 0, status="failed: the loss is nan")
    report.write(Results.read(folder, [f"review {i}" for i in range(TESTS)]))
    results, kept = Results.read(folder), again(folder)
    assert {path.name for path in kept.folder.iterdir()} == {
        *("experiment.json", "runs.csv", "predictions.parquet", "report.md", "report.html")
    }
    assert kept.records == results.records
    pd.testing.assert_frame_equal(kept.comparisons, results.comparisons)
    found, exact = (each.runs.set_index("calibration_error") for each in (kept, results))
    assert np.abs(found.index - exact.index).max() <= 5e-5  # of confidences to four decimals
    pd.testing.assert_frame_equal(found.reset_index(drop=True), exact.reset_index(drop=True))
    for key, logits in results.predictions.logits.items():
        found, exact = (softmax(each, axis=1) for each in (kept.predictions.logits[key], logits))
        assert np.array_equal(found.argmax(1), exact.argmax(1))
        assert np.abs(found.max(1) - exact.max(1)).max() < 5.1e-5
    confidence = pd.read_parquet(kept.folder / "predictions.parquet")["confidence"]
    assert confidence.equals(confidence.round(4))
    page = (kept.folder / "report.md").read_bytes()
    assert report.main([str(kept.folder)]) == 0
    assert (kept.folder / "report.md").read_bytes() == page
    results = replace(results, misclassified=None, experiment=kept.experiment)  # without RESULTS
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
    logits = results_module._logits(predicted, pd.Series(confidence), names).to_numpy(np.float32)
    assert np.array_equal(logits.argmax(1), predicted)
    assert np.abs(softmax(logits, axis=1).max(1) - confidence).max() < 1e-6


def test_a_compact_experiment_shows_the_figures_that_are_there(folder):
    kept = again(folder)
    (kept.folder / "test_accuracy.png").write_bytes(b"old")
    names = {path.name for path in report.write(kept)}
    assert names == {"test_accuracy.png", "report.md", "report.html"}
    assert (kept.folder / "test_accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "(test_accuracy.png)" in (kept.folder / "report.md").read_text(encoding="utf-8")


def test_a_damaged_table_is_named(folder):
    kept = again(folder).folder
    (kept / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"predictions\.parquet cannot be read"):
        Results.read(kept)


def test_the_rates_of_tunings_share_one_table_and_its_figures(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        add_tuning(tmp_path / name)
    for name in ("one", "two", "one"):  # the second time in place of the first
        assert compact.main([str(tmp_path / name), str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "learning_rates.csv")
    assert table["experiment"].tolist() == ["one"] * 6 + ["two"] * 6
    own = table[table["experiment"] == "one"].reset_index(drop=True)
    tried = pd.read_csv(tmp_path / "one" / "tuning.csv").query("method != 'probe'")
    assert own.equals(tried.drop(columns="pooling"))  # rates, no readings
    assert (tmp_path / "learning_rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", ["--results '/data/o'\"'\"'brien x'", "--results=/home/me/x"])
def test_no_form_of_results_stays_in_a_compact_command(folder, option):
    begin(folder, command=f"python finetuning.py --methods 'lora(rank=4)' {option} --seeds 0")
    about = json.loads((again(folder).folder / "experiment.json").read_text())
    assert about["command"] == "python finetuning.py --methods 'lora(rank=4)' --seeds 0"


def test_a_tuning_without_rates_is_refused_and_writes_nothing(tmp_path, capsys):
    add_tuning(tmp_path)
    tried = pd.read_csv(tmp_path / "tuning.csv").query("method == 'probe'")
    tried.to_csv(tmp_path / "tuning.csv", index=False)
    assert compact.main([str(tmp_path), str(tmp_path / "to")]) == 2
    assert "tuning.csv has no learning rates to keep" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("arguments", [[], ["one"], ["missing", "to"]])
def test_what_cannot_be_made_compact_is_one_line(arguments, capsys):
    assert compact.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_macro_f1_counts_each_label_alike(tmp_path):
    """Labels 0, 0, 0, 1 all taken for 0: F1 is 6/7 of label 0 and 0 of label 1."""
    begin(tmp_path)
    add_run(tmp_path, "head", 0, predicted(np.array([0, 0, 0, 1]), np.eye(2)[[0] * 4]))
    assert Results.read(tmp_path).runs["macro_f1"].tolist() == [pytest.approx(3 / 7)]


def test_macro_f1_is_of_the_labels_that_the_test_has_or_a_method_says(tmp_path):
    names = ["bad", "good", "never"]
    begin(tmp_path, label_names=names)
    logits = np.eye(3)[[0, 0, 1, 1]]
    add_run(tmp_path, "head", 0, predicted(np.array([0, 0, 1, 1]), logits, names))
    assert Results.read(tmp_path).runs["macro_f1"].tolist() == [1.0]


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
