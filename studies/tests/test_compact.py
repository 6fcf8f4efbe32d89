"""The compact form of an experiment says the same as its files, and makes the same page again."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_folds, begin
from scipy.special import softmax

from boundary import BadInput
from evaluation import report
from evaluation.results import Results
from studies import compact
from studies.compact import logits_of


@pytest.fixture(autouse=True)
def without_drawing(request):
    if "figures" not in request.node.name:
        request.getfixturevalue("without_figures")


@pytest.fixture
def folder(tmp_path):
    begin(tmp_path, constants=EXPERIMENT["constants"] | {"methods": ["None", "lora"]})
    for seed in (0, 1):
        add(tmp_path, "None", seed, right=20 + seed), add(tmp_path, "lora", seed, right=33 + seed)
    return tmp_path


def again(folder):
    """The results of the compact form."""
    compact.compact(folder, folder / "compact")
    return compact.read(folder / "compact")


def check_same(kept, results):
    assert kept.records == results.records
    pd.testing.assert_frame_equal(kept.comparisons, results.comparisons)
    pd.testing.assert_frame_equal(kept.runs, results.runs)
    for method, runs in results.predictions.logits.items():
        for seed, logits in runs.items():
            found = softmax(kept.predictions.logits[method][seed], axis=1)
            exact = softmax(logits, axis=1)
            assert np.array_equal(found.argmax(1), exact.argmax(1))
            assert np.abs(found.max(1) - exact.max(1)).max() < 5.1e-4


def test_it_says_the_same_and_makes_the_same_page_again(folder):
    add(folder, "tfidf", 0), add(folder, "adapter", 0, status="failed: the loss is nan")
    report.write(Results.read(folder, [f"review {i}" for i in range(TESTS)]))
    results, kept = Results.read(folder), again(folder)
    assert {path.name for path in kept.folder.iterdir()} == {
        *("experiment.json", "runs.csv", "predictions.parquet", "report.md", "report.html")
    }
    check_same(kept, results)
    confidence = pd.read_parquet(kept.folder / "predictions.parquet")["confidence"]
    assert confidence.equals(confidence.round(3))
    page = (kept.folder / "report.md").read_bytes()
    assert compact.main([str(kept.folder)]) == 0
    assert (kept.folder / "report.md").read_bytes() == page
    (folder / "misclassified.csv").unlink()
    results = replace(results, experiment=kept.experiment)  # without RESULTS
    assert page.decode() == report.page(results, {})


def test_it_keeps_folds_and_groups(tmp_path):
    rng, groups = np.random.default_rng(0), np.arange(120) // 4
    truth = rng.integers(0, 2, 120)
    data = {"folds": 3, "texts": 120, "groups": {"train": 20}}
    begin(tmp_path, data=EXPERIMENT["data"] | data)
    for method in ("head", "lora"):
        logits = np.eye(2)[truth] + rng.normal(size=(120, 2))
        add_folds(tmp_path, method, 3, truth, logits, groups=groups)
    results, kept = Results.read(tmp_path), again(tmp_path)
    check_same(kept, results)
    assert kept.is_folds and kept.predictions.rows.tolist() == list(range(120))


@pytest.mark.parametrize("option", ["--results '/data/o'\"'\"'brien x'", "--results=/home/me/x"])
def test_it_does_not_say_in_which_folder_it_was_made(folder, option):
    constants = EXPERIMENT["constants"] | {"results": "/data/my results"}
    command = f"python finetuning.py --methods 'lora(rank=4)' {option} --seeds 0"
    begin(folder, constants=constants, command=f"{command} && python finetuning.py {option}")
    about = json.loads((again(folder).folder / "experiment.json").read_text())
    assert about["constants"] == constants | {"results": "results"}
    shorter = "python finetuning.py --methods 'lora(rank=4)' --seeds 0"
    assert about["command"] == f"{shorter} && python finetuning.py"


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_its_logits_have_its_predictions_and_confidences(classes):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(classes, 0.3), 500)
    shares[:2] = np.eye(classes)[0], np.full(classes, 1 / classes)  # sure, and a tie
    predicted, confidence = shares.argmax(1), shares.max(1).astype(np.float32)
    predicted[1] = classes - 1  # as float32 may leave it
    names = [str(label) for label in range(classes)]
    logits = logits_of(predicted, pd.Series(confidence), names).to_numpy(np.float32)
    assert np.array_equal(logits.argmax(1), predicted)
    assert np.abs(softmax(logits, axis=1).max(1) - confidence).max() < 1e-6


def test_it_shows_the_figures_that_are_there(folder):
    kept = again(folder)
    (kept.folder / "accuracies.png").write_bytes(b"old")
    names = {path.name for path in compact.show(kept.folder)}
    assert names == {"accuracies.png", "report.md", "report.html"}
    assert (kept.folder / "accuracies.png").read_bytes().startswith(b"\x89PNG")
    assert "(accuracies.png)" in (kept.folder / "report.md").read_text(encoding="utf-8")


def test_a_damaged_table_is_named_and_so_is_what_reads_it(folder):
    kept = again(folder).folder
    (kept / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"predictions\.parquet cannot be read"):
        compact.read(kept)
    with pytest.raises(BadInput, match=r"give it to python -m studies\.compact"):
        Results.read(kept)


@pytest.mark.parametrize("arguments", [[], ["missing"], ["missing", "to"]])
def test_what_cannot_be_made_compact_is_one_line(arguments, capsys):
    assert compact.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
