"""The answer for one's own texts, and the rule of its advice."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from made_up import TESTS, add, add_folds, begin, begin_folds
from sklearn.metrics import f1_score

from data_utils import ENCODERS
from evaluation import advice, answer, comparisons, errors, report, statistics, tables
from evaluation.metrics import METRICS
from evaluation.results import Results

METHODS = ["full", "lora+tfidf", "probe", "tfidf", "adapter", "lora"]


def of_wrong(folder, truth, metric="accuracy", **wrong):
    """Results of two folds: each method takes these of two labels, a bool array, for the other."""
    begin_folds(folder, 2, constants={"methods": list(wrong), "metric": metric})
    for method, is_wrong in wrong.items():
        add_folds(folder, method, 2, truth, 2.0 * np.eye(2)[np.where(is_wrong, 1 - truth, truth)])
    return Results.read(folder)


def of_right(folder, n, **right):
    """The same of n texts: each method is right on these, a slice."""
    wrong = {method: ~np.isin(np.arange(n), np.arange(n)[s]) for method, s in right.items()}
    return of_wrong(folder, np.arange(n) % 2, **wrong)


def test_methods_go_from_the_simplest_to_fine_tuning(tmp_path):
    every = [*METHODS, "head", "head+tfidf", "probe+tfidf"]
    results = of_right(tmp_path, 40, **dict.fromkeys(every, slice(20)))
    expected = ["tfidf", "probe", "probe+tfidf", "head", "lora", "lora+tfidf"]
    expected += ["adapter", "head+tfidf", "full"]  # by their parameters, full last
    assert advice.by_simplicity(results) == expected


@pytest.mark.parametrize("lead", [4, 10, 30])
def test_the_highest_is_advised_and_the_simplest_within_a_standard_error_named(tmp_path, lead):
    """The two disagree on 40 + lead of 400 texts: 4 are less than a standard error."""
    results = of_right(tmp_path, 400, tfidf=slice(320), lora=slice(20, 340 + lead))
    advised = advice.advise(results)
    assert (advised.method, results.best, advice.advised(results)) == ("lora", "lora", "lora")
    kind = "simplest method within a standard error" if lead == 4 else "best of the simpler methods"
    assert f"It leads TF-IDF, the {kind}, by {lead / 4:.1f} points" in advised.sentence
    half = 1.966 * (40 + lead + 2 - lead**2 / 402) ** 0.5 / 401 * statistics.FOLDS_FACTOR
    needed = 400 * (half * (1.96 + 0.8416) / 1.96 / (lead / 400)) ** 2  # power of 80 %
    digit = 10 ** (len(str(int(needed))) - 1)
    needed = -(-needed // digit) * digit  # one digit is told, no less than is needed
    told = f"about {needed:,.0f} tested texts would make it, by itself, significant in four of five"
    assert (told in advised.sentence) == (lead < 30) == ("would make" in advised.sentence)


def test_so_many_texts_as_are_told_make_a_lead_in_macro_f1_significant(tmp_path):
    """With a rare label too, of which more texts of the same kind show more."""
    text = np.arange(200)
    truth = (text % 100 == 0).astype(int)  # two rare texts, of which TF-IDF has none right
    wrong = {"tfidf": (text % 8 == 1) | (truth == 1), "lora": (text % 10 == 3) | (text == 0)}

    def repeated(times):
        several = {method: np.tile(is_wrong, times) for method, is_wrong in wrong.items()}
        return of_wrong(tmp_path / str(times), np.tile(truth, times), "macro_f1", **several)

    sentence = advice.advise(repeated(1)).sentence
    needed = int(re.search(r"about ([\d,]+) tested", sentence)[1].replace(",", ""))
    needed *= (1.96 / (1.96 + 0.8416)) ** 2  # texts of which half the experiments show it
    more, less = (repeated(round(k * needed / 200)).pairs["p"].iloc[0] for k in (1.2, 0.6))
    assert more < statistics.LEVEL < less


def test_never_are_as_many_texts_told_as_were_tested(tmp_path, monkeypatch):
    """Ten texts of 200 are of one label: unseen ones make the lead uncertain, tested ones not."""
    monkeypatch.setattr(advice, "POWER", 0.5)
    text = np.arange(200)
    wrong = {"tfidf": text < 5, "lora": text < 0}
    results = of_wrong(tmp_path, (text < 10).astype(int), "macro_f1", **wrong)
    assert results.pairs["p"].iloc[0] > statistics.LEVEL
    assert "tested texts" not in advice.advise(results).sentence


def test_a_single_run_without_an_interval_can_be_the_best(tmp_path):
    begin(tmp_path, data={"is_own": True}, constants={"methods": ["lora", "full"]})
    add(tmp_path, "lora", 0, 28), add(tmp_path, "lora", 1, 30), add(tmp_path, "full", 0, 39)
    assert advice.advise(Results.read(tmp_path)).sentence.startswith("Use full")


def test_a_single_run_below_chance_is_not_advised(tmp_path):
    begin(tmp_path, data={"is_own": True})
    add(tmp_path, "head", 0, 15), add(tmp_path, "head", 1, 17), add(tmp_path, "lora", 0, 18)
    assert advice.advise(Results.read(tmp_path)).sentence.startswith("Use none yet.")


@pytest.mark.parametrize("several", ["probe", "lora"])
def test_one_run_beside_several_seeds_has_no_verdict(tmp_path, several):
    begin(tmp_path, data={"is_own": True, "labels_redrawn": True})
    for method, seeds in {"probe": 1, "head": 2, "lora": 1, several: 3}.items():
        for seed in range(seeds):
            add(tmp_path, method, seed, 20 + 2 * seed + 8 * (method == "lora"))
    rows = answer.methods(Results.read(tmp_path)).set_index("method")
    told = ["head"] if several == "probe" else []
    assert [m for m in rows.index if isinstance(rows.get("verdict", {}).get(m), str)] == told
    assert answer.terminal(Results.read(tmp_path))


def test_of_equals_the_simplest_is_advised(tmp_path):
    results = of_right(tmp_path, 40, lora=slice(30), probe=slice(30), tfidf=slice(20))
    assert advice.advised(results) == "probe"


def test_more_texts_are_not_said_to_decide_what_seeds_leave_open(tmp_path):
    begin(tmp_path)
    for seed, right in enumerate((20, 30, 40)):
        add(tmp_path, "probe", seed, 28), add(tmp_path, "lora", seed, right)
    sentence = advice.advise(Results.read(tmp_path)).sentence
    assert "by " in sentence and "tested texts" not in sentence
    shutil.rmtree(tmp_path / "lora-seed0")
    add(tmp_path, "probe", 1, 36), add(tmp_path, "probe", 2, 40)  # better where both have runs
    assert "both have, its lead over probe is" in advice.advise(Results.read(tmp_path)).sentence


def test_a_method_that_was_interrupted_between_folds_is_left_out_and_said(tmp_path):
    of_right(tmp_path, 40, tfidf=slice(30), lora=slice(40))
    shutil.rmtree(tmp_path / "lora-seed1")
    results = Results.read(tmp_path)
    assert advice.advised(results) == "tfidf"
    assert list(answer.methods(results)["method"]) == ["tfidf"]
    told = answer.terminal(results)
    assert "Left out, since not all folds are finished: lora." in told
    assert "Of the finished methods, use TF-IDF: " in told
    bars = comparisons.overview(results)[0].axes[0].patches
    assert len(bars) == 1
    shutil.rmtree(tmp_path / "tfidf-seed0")  # none has tested what the other has
    assert len(advice.compared(Results.read(tmp_path))) == 1
    shutil.rmtree(tmp_path / "lora-seed0")  # no fold of it has begun
    assert "folds are finished: lora." in answer.terminal(Results.read(tmp_path))


def test_where_many_texts_are_truncated_the_answer_says_so(tmp_path):
    results = of_right(tmp_path, 40, probe=slice(30), lora=slice(32))
    (line,) = [line for line in answer.notes(results) if "tokens" in line]
    assert line.startswith("The encoder reads 8 tokens of a text, and 25.0 % of the tested texts ")
    results.experiment["data"]["test_share_truncated"] = 0.2
    assert not any("tokens" in line for line in answer.notes(results))


def test_folds_that_no_method_has_finished_are_said(tmp_path):
    results = of_right(tmp_path, 40, probe=slice(30), lora=slice(32))
    assert not any("Only" in line for line in answer.notes(results))
    for method in ("probe", "lora"):
        shutil.rmtree(tmp_path / f"{method}-seed1")
    (line,) = [line for line in answer.notes(Results.read(tmp_path)) if "Only" in line]
    assert line.startswith("Only 1 of 2 folds are finished: they test 20 of ")


def test_chance_is_judged_by_the_metric_of_the_comparison(tmp_path, monkeypatch):
    """Who says the labels in any order that keeps their shares has a mean macro-F1 of 1 / C."""
    truth = (np.arange(40) % 10 == 9).astype(int)
    results = of_wrong(tmp_path, truth, "macro_f1", lora=np.arange(40) < 5)
    rng = np.random.default_rng(0)
    guesses = [f1_score(truth, rng.permutation(truth), average="macro") for _ in range(1000)]
    guess, score = advice.chance(results)
    assert score == 0.5 == pytest.approx(np.mean(guesses), abs=0.01)
    assert f"G{guess[1:]} has 50.0 % macro-F1." in answer.notes(results)
    assert advice.chance(results, "accuracy") == ("always saying “bad”", 0.9)

    def balanced(labels, logits):  # a row that a user may add
        return len(labels) / 2 / np.bincount(labels)[labels] * (logits.argmax(1) == labels)

    monkeypatch.setitem(METRICS, "balanced", replace(METRICS["accuracy"], compute=balanced))
    assert advice.chance(results, "balanced")[1] == pytest.approx(0.5)
    assert results.intervals["macro_f1_low"][0] > score
    assert advice.advise(results).is_worthwhile
    add_folds(tmp_path, "probe", 2, truth, np.eye(2)[truth])
    assert "− probe, points, macro-F1" in answer.method_columns(Results.read(tmp_path))


def test_the_highest_macro_f1_is_advised_though_another_accuracy_is_higher(tmp_path):
    """Four of 40 texts are of label 1. TF-IDF misses all; LoRA has them, and five errors more."""
    rare, five = np.arange(40) % 10 == 9, np.arange(40) % 8 == 0
    results = of_wrong(tmp_path, rare.astype(int), "macro_f1", tfidf=rare, lora=five)
    scores = results.intervals.set_index("method")
    assert scores["accuracy"].to_dict() == pytest.approx({"tfidf": 36 / 40, "lora": 35 / 40})
    f1 = {"tfidf": (72 / 76 + 0) / 2, "lora": (62 / 67 + 8 / 13) / 2}
    assert scores["macro_f1"].to_dict() == pytest.approx(f1)
    assert advice.advised(results) == results.best == "lora"
    assert answer.methods(results)["method"].tolist() == ["lora", "tfidf"]


def test_more_labels_are_not_said_to_help_where_all_tested_texts_have_one(tmp_path):
    results = of_wrong(tmp_path, np.zeros(40, int), tfidf=np.arange(40) < 9)
    sentence = advice.advise(results).sentence
    assert sentence.endswith("to beat always saying “bad”, which has 100.0 %.")


def test_a_method_that_is_not_shown_to_beat_the_largest_label_is_told_so(tmp_path):
    rare = np.arange(100) < 5
    line = "It is not shown to beat always saying “good”, which has 95.0 %; more labels may change"
    for wrong, is_said in ((rare, True), (rare & False, False)):
        results = of_wrong(tmp_path, 1 - rare, tfidf=wrong)
        sentence = advice.advise(results).sentence
        assert (f"{line} that." in sentence) == is_said
        assert sentence.startswith("Use none yet. The best is TF-IDF") == is_said
        said = "on all texts all the same, to classify new ones:" in report.page(results, {})
        assert said == is_said


def test_answers_at_random_are_not_advised_for_their_macro_f1(tmp_path):
    """They spread over the labels, and so have more macro-F1 than the largest label alone."""
    truth = np.repeat([0, 1, 2], [800, 200, 200])
    begin_folds(tmp_path, 2, label_names=list("abc"), constants={"metric": "macro_f1"})
    shuffled = np.random.default_rng(0).permutation(truth)
    add_folds(tmp_path, "tfidf", 2, truth, np.eye(3)[shuffled], list("abc"))
    results = Results.read(tmp_path)
    always = f1_score(truth, np.zeros(1200, int), average="macro", zero_division=0)
    assert results.intervals["macro_f1_low"][0] > always
    sentence = advice.advise(results).sentence
    assert sentence.startswith("Use none yet.") and "; no other method is compared." in sentence
    assert "beat guessing labels as often as they occur, which has 33.3 %" in sentence


@pytest.mark.parametrize("found", [20, 0])
def test_macro_f1_is_named_where_rare_labels_are_found_and_accuracy_is_no_higher(tmp_path, found):
    truth = (np.arange(400) < 40).astype(int)
    predicted = np.arange(400) < found
    predicted[-found:] = found > 0  # as many other texts are called so
    begin_folds(tmp_path, 2)
    add_folds(tmp_path, "tfidf", 2, truth, np.eye(2)[predicted.astype(int)])
    sentence = advice.advise(Results.read(tmp_path)).sentence
    assert sentence.startswith("Use none yet.")
    line = "Its macro-F1, where each label counts alike, beats guessing: see --metric macro_f1"
    assert (line in sentence) == (found > 0)


@pytest.mark.parametrize("preset", ["own", "quick"])
@pytest.mark.parametrize("is_own", [True, False])
def test_ones_own_data_with_a_test_of_its_own_gets_advice_too(tmp_path, preset, is_own):
    methods = ["head", "lora"]
    begin(tmp_path, constants={"preset": preset, "methods": methods}, data={"is_own": is_own})
    add(tmp_path, "head", 0, right=20), add(tmp_path, "head", 1, right=30)
    results = Results.read(tmp_path)
    assert (advice.advised(results) == "head") == (is_own or preset == "own")
    assert answer.notes(results)[0] == "Left out, since no run is finished: lora."
    assert errors.confusion(results, "head").diagonal().sum() == 25  # the mean over seeds
    assert errors.label_columns(results, "head")["texts"] == [str(TESTS // 2)] * 2


def test_rows_are_sorted_with_differences_from_the_probe(tmp_path):
    results = of_right(tmp_path, 400, tfidf=slice(280), probe=slice(320), lora=slice(360))
    rows = answer.methods(results).set_index("method")
    assert list(rows.index) == ["lora", "probe", "tfidf"]
    assert rows["difference"].dropna().tolist() == pytest.approx([0.1, -0.1])
    assert rows["verdict"].dropna().tolist() == ["significant", "significant"]
    assert rows.loc["lora", "difference_low"] < 0.1 < rows.loc["lora", "difference_high"]
    cells = answer.method_columns(results)["− probe, points"]
    assert cells[0].startswith("10.0 (") and cells[0].endswith(") significant") and cells[1] == ""
    text = answer.terminal(results)
    assert "90.0 (" in text and "Use LoRA" in text and "each text tested once" in text


def test_the_larger_encoder_is_named_where_the_smaller_one_was_used(tmp_path):
    results = of_right(tmp_path, 400, probe=slice(320), tfidf=slice(200))
    for model, is_named in ((ENCODERS["minilm"], True), ("distilbert", False)):
        results.experiment["model"] = model
        assert ("try --model mpnet" in answer.terminal(results)) == is_named


WORTH = [(250, "are worth it"), (318, "cannot tell"), (320, "would add less than 1 point")]


@pytest.mark.parametrize(("half", "words"), WORTH)
def test_a_method_on_part_of_the_labels_says_whether_more_are_worth_it(tmp_path, half, words):
    """It is no method of the table, the advice or the figure."""
    right = {"probe": slice(320), "probe(labels=0.5)": slice(half), "tfidf": slice(200)}
    results = of_right(tmp_path, 400, **right)
    (sentence,) = advice.more_labels(results)
    assert words in sentence
    results.experiment["constants"]["equivalence_margin"] = 0.3  # a sure gain that does not matter
    assert "would add less than 30 points" in advice.more_labels(results)[0]
    results.experiment["constants"]["equivalence_margin"] = 0.01
    assert sentence.startswith(f"probe (labels=0.5) reaches {half / 4:.1f} % (")
    assert f"all labels change that by {80 - half / 4:.1f} points (" in sentence
    assert sentence in tables.terminal(results)
    assert advice.by_simplicity(results) == ["tfidf", "probe"]
    assert advice.advised(results) == "probe"
    assert len(comparisons.overview(results)[0].axes[0].patches) == 3
    ticks = comparisons.accuracies(results)[0].axes[0].get_yticklabels()
    names = [tick.get_text() for tick in ticks]
    assert answer.method_columns(results)["method"] == names == ["probe", "TF-IDF"]
    shutil.rmtree(tmp_path / "probe-labels=0.5-seed1")  # its first fold alone tells nothing
    assert advice.more_labels(Results.read(tmp_path)) == []


def test_methods_on_a_part_of_the_labels_are_compared_where_there_are_no_others(tmp_path):
    results = of_right(tmp_path, 40, **{"probe(labels=0.5)": slice(30)})
    assert advice.advised(results) == "probe(labels=0.5)" and advice.more_labels(results) == []


def test_the_final_models_command_is_the_one_that_the_method_was_compared_by(tmp_path):
    first = "python finetuning.py --methods tfidf probe+lora --lora-rank 2"
    second = "python f.py --methods head"
    results = of_right(tmp_path, 40, lora=slice(30))
    results.experiment["command"] = f"{first} && {second}"
    assert answer.final_command(results) == f"{first} --final lora"
    results.experiment["command"] = f"{second} && python finetuning.py"  # METHODS of the file
    assert answer.final_command(results) == "python finetuning.py --final lora"
