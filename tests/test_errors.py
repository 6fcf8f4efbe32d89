"""How a method errs: scores and confusions by label, and the texts of which it is least sure."""

import re
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from unicodedata import east_asian_width

import numpy as np
import pytest
from made_up import add_folds, begin_folds
from scipy.special import softmax

from evaluation import advice, answer, comparisons, errors, plots, report, tables
from evaluation.results import Results

NAMES = ["billing", "login", "other"]
THREE = ["contradiction", "entailment", "not enough information"]
LONG = [f"Department of customer service, number {n}" for n in range(4)]
ENDS_ALIKE = [f"Technical support: {kind}, battery problems" for kind in ("phones", "tablets")]


@pytest.fixture
def errs(tmp_path):
    """Results of a method in three folds, whose labels, logits and rows are known."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
    logits = (1.5 * np.eye(3)[truth] + rng.normal(size=(200, 3))).astype(np.float32)
    begin_folds(tmp_path, 3, label_names=NAMES)
    add_folds(tmp_path, "head", 3, truth, logits, NAMES)
    return Results.read(tmp_path), truth, logits


def test_precision_recall_and_confusions_are_counted_by_label(errs):
    results, truth, logits = errs
    predicted = logits.argmax(1)
    right, given, texts = map(np.bincount, (truth[truth == predicted], predicted, truth))
    expected = {"precision, %": right / given, "recall, %": right / texts}
    expected["F1, %"] = 2 * right / (given + texts)
    table = errors.label_columns(results, "head")
    for column, values in expected.items():
        assert table[column] == [f"{100 * value:.1f}" for value in values]
    assert table["texts"] == [str(count) for count in texts]
    counts = errors.confusion(results, "head")
    assert counts[1, 2] == ((truth == 1) & (predicted == 2)).sum() != counts[2, 1]
    assert counts.sum(axis=0).tolist() == given.tolist()
    assert advice.chance(results) == ("always saying “billing”", (truth == 0).mean())
    (sentence,) = errors.frequent_errors(results, "head")
    pairs = [(counts[i, j], i, j) for i in range(3) for j in range(3) if i != j]
    told = re.findall(r"“(\w+)” for “(\w+)” (\d+)", sentence)
    assert [int(count) for *_, count in told] == sorted([c for c, *_ in pairs])[::-1][:5]
    assert all((int(n), NAMES.index(i), NAMES.index(j)) in pairs for i, j, n in told)


def test_pairs_of_many_labels_take_little_memory(monkeypatch):
    counts = np.eye(1000) * 9
    counts[7, 3], counts[2, 999], counts[5, 6] = 4, 6, 4
    monkeypatch.setattr(errors, "confusion", lambda results, method: counts)
    results = SimpleNamespace(experiment={"label_names": [f"n{n}" for n in range(1000)]})
    tracemalloc.start()
    (sentence,) = errors.frequent_errors(results, "head")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sentence.endswith("label: “n2” for “n999” 6; “n5” for “n6” 4; “n7” for “n3” 4.")
    assert peak < 5 * counts.nbytes


def test_after_arabic_and_hebrew_labels_a_mark_keeps_the_order_of_what_follows(tmp_path):
    names = ["תשלום", "فاتورة", "other"]
    begin_folds(tmp_path, 3, label_names=names)
    truth = np.arange(60) % 3
    add_folds(tmp_path, "head", 3, truth, np.eye(3)[(truth + 1) % 3], names)
    results = Results.read(tmp_path)
    shown = ["תשלום\u200e", "فاتورة\u200e", "other"]
    assert errors.label_columns(results, "head")["label"] == shown
    (sentence,) = errors.frequent_errors(results, "head")
    assert all(f"“{a}” for “{b}” 20" in sentence for a, b in pairwise([*shown, shown[0]]))


def test_columns_stand_below_one_another_beside_wide_letters(tmp_path):
    names = ["物流", "slow"]
    begin_folds(tmp_path, 3, label_names=names)
    add_folds(tmp_path, "head", 3, np.arange(60) % 2, np.eye(2)[np.arange(60) % 2], names)
    lines = answer.terminal(Results.read(tmp_path)).splitlines()
    rows = [line for line in lines if re.match(r" *(物流|slow|label) ", line)]
    widths = {sum(1 + (east_asian_width(c) == "W") for c in row) for row in rows}
    assert len(rows) == 3 and len(widths) == 1


@pytest.mark.parametrize("count", [25, 26])
def test_labels_are_listed_where_they_are_few_and_else_folded(tmp_path, count):
    names, truth = [f"label {n:02}" for n in range(count)], np.arange(4 * count) % count
    begin_folds(tmp_path, 2, label_names=names)
    add_folds(tmp_path, "head", 2, truth, 2.0 * np.eye(count)[truth], names)
    told = answer.terminal(Results.read(tmp_path))
    assert ("label 24" in told) == (count == 25)
    assert ("How each of the 26 labels is found: see report.html" in told) == (count == 26)
    above = report.page(Results.read(tmp_path), {}).split("| label 24 |")[0]
    assert (above.count("<details>") > above.count("</details>")) == (count == 26)


@pytest.mark.parametrize("name", ["bad", "\U000f0000"])  # the second is for private use: a box
def test_letters_that_no_font_has_are_told_in_one_line(tmp_path, name, capsys):
    begin_folds(tmp_path, 3, label_names=["good", name])
    for method in ("head", "lora"):
        add_folds(
            tmp_path, method, 3, np.arange(60) % 2, np.eye(2)[np.arange(60) % 2], ["good", name]
        )
    assert len(plots.draw(Results.read(tmp_path))) > 1
    told = "warning: figures have boxes for letters that no installed font has; install one"
    assert capsys.readouterr().err.count(told) == (name != "bad")


def test_the_least_confident_texts_go_to_a_person(errs):
    results, truth, logits = errs
    confidence = softmax(logits, axis=1).max(axis=1)
    order = np.argsort(confidence)  # least confident first
    right, least = (logits.argmax(1) == truth)[order], np.sort(confidence)
    expected = [
        f"{share} % (below {least[2 * share]:.3f}): {100 * right[2 * share :].mean():.1f} %"
        for share in errors.SHARES
    ]
    assert "; ".join(expected) in errors.referral(results, "head")
    assert right[100:].mean() > right.mean()


def test_a_threshold_has_the_decimals_that_it_needs():
    for share, words in {0.5: "0.500", 0.99957: "0.99957", 0.9999912: "0.999991"}.items():
        assert errors._below(share) == f" (below {words})"
    assert errors._below(0.9999999) == errors._below(1.0) == ""


def test_the_most_confident_errors_are_listed_with_their_rows(errs):
    results, truth, logits = errs
    shares = softmax(logits, axis=1)
    wrong = np.flatnonzero(logits.argmax(1) != truth)
    expected = wrong[np.argsort(-shares.max(axis=1)[wrong])]
    tested = results.predictions._replace(rows=7 + 3 * np.arange(200))  # others are trained on
    table = errors.confident_errors(replace(results, predictions=tested), "head")
    assert table["row"].tolist() == (7 + 3 * expected).tolist()
    assert table["label"].tolist() == [NAMES[i] for i in truth[expected]]
    assert table["predicted"].tolist() == [NAMES[i] for i in logits.argmax(1)[expected]]
    assert table["confidence"].tolist() == pytest.approx(shares.max(axis=1)[expected])
    assert len(table) > errors.WRONG
    results = replace(results, texts=["it is late"] * len(truth))
    page = tables.misclassified(results)
    assert page.count("it is late") == errors.WRONG
    assert f"All {len(table)} are in misclassified.csv." in page


@pytest.mark.parametrize(
    ("names", "rotation"), [(["bad", "good"], 0), (THREE, 90), (LONG, 90), (ENDS_ALIKE, 90)]
)
def test_labels_in_a_confusion_matrix_differ_and_do_not_overlap(tmp_path, names, rotation):
    truth = np.arange(40) % len(names)
    begin_folds(tmp_path, 2, label_names=names)
    add_folds(tmp_path, "head", 2, truth, 2.0 * np.eye(len(names))[truth], names)
    figure, *_ = comparisons.confusion_matrix(Results.read(tmp_path))
    labels = figure.axes[0].get_xticklabels()
    assert len({label.get_text() for label in labels}) == len(names)
    assert {label.get_rotation() for label in labels} == {rotation}
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
