"""Figures are drawn from the files alone, and say nothing that the files do not."""

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, add, add_tuning
from sklearn.metrics import confusion_matrix

from evaluation import comparisons, curves, matrices, plots, records, statistics

ALWAYS = {
    *("train_accuracy", "test_accuracy", "train_loss", "test_loss", "trainable_percentage"),
    *("training_time", "learning_curves_epochs", "learning_curves_seconds", "confusion"),
}
COMPARED = {"differences", "cost_and_benefit"}


def drawn(folder):
    written = plots.make_plots(folder)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert {path.name for path in written} == {path.name for path in folder.glob("*.png")}
    assert not list(folder.rglob("*.part"))
    return {path.stem for path in written}


def test_every_figure_is_drawn_and_failed_runs_are_left_out(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0), add(tmp_path, "lora", 0), add(tmp_path, "lora", 1, right=33, epochs=1)
    add(tmp_path, "tfidf", 0), add(tmp_path, "adapter", 0, status="failed: loss")
    assert drawn(tmp_path) == ALWAYS | COMPARED | {"changes_lora"}


def test_one_run_is_enough_and_is_compared_with_nothing(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0)
    assert drawn(tmp_path) == ALWAYS


def test_a_baseline_alone_has_no_learning_curves_and_no_share_of_a_pretrained_model(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "tfidf", 0)
    without = {"learning_curves_epochs", "learning_curves_seconds", "trainable_percentage"}
    assert drawn(tmp_path) == ALWAYS - without - {"training_time"}


@pytest.mark.parametrize("classes", [7, 30])
def test_many_labels_and_a_method_of_ones_own_are_drawn(tmp_path, classes):
    labels = [f"label {c} of a $5_ to $6^ name" for c in range(classes)]
    records.open_experiment(tmp_path, EXPERIMENT | {"label_names": labels})
    add(tmp_path, "mine", 0, labels=labels), add(tmp_path, "head", 0, 20, labels=labels)
    assert drawn(tmp_path) == ALWAYS | COMPARED


def test_error_bars_of_the_test_accuracy_are_the_intervals(tmp_path):
    for seed, right in ((0, 30), (1, 31), (2, 32)):
        add(tmp_path, "lora", seed, right)
    add(tmp_path, "tfidf", 0, 20)
    runs = records.read_csv(tmp_path / "runs.csv")
    intervals = statistics.by_method(runs, 40)
    figure, note, _ = comparisons.bars(runs, "test_accuracy", comparisons.ACCURACY, intervals, 2)
    bars = [c for c in figure.axes[0].collections if len(c.get_segments()) == 1]
    ends = [bar.get_segments()[0][:, 1] for bar in bars]
    np.testing.assert_allclose(ends, 100 * intervals[["low", "high"]].to_numpy())
    mean, half = 31 / 40, 4.302652729911275 / 40 / 3**0.5  # t with 2 d.f., sd 1 review
    np.testing.assert_allclose(ends[0], [100 * (mean - half), 100 * (mean + half)])
    assert "(LoRA)" in note and "(TF-IDF)" in note


def test_long_times_are_written_in_full(tmp_path):
    add(tmp_path, "lora", 0)
    runs = records.read_csv(tmp_path / "runs.csv").assign(training_seconds=12345.6)
    _, _, scale = comparisons.BARS["training_time"]
    intervals = statistics.by_method(runs, 40)
    figure, _, _ = comparisons.bars(runs, "training_seconds", scale, intervals, 2)
    assert "12,346" in [text.get_text() for text in figure.axes[0].texts]


def test_the_pareto_front_holds_what_nothing_beats():
    cost, benefit = np.array([3.0, 1, 2, 4, 1, 3]), np.array([0.8, 0.5, 0.4, 0.8, 0.5, 0.9])
    assert comparisons.pareto_front(cost, benefit).tolist() == [1, 4, 5]
    assert comparisons.pareto_front(np.array([]), np.array([])).tolist() == []


def test_the_pareto_front_goes_on_from_its_last_method_to_the_panels_edge(tmp_path):
    add(tmp_path, "head", 0, right=36), add(tmp_path, "lora", 0, right=24)
    runs = records.read_csv(tmp_path / "runs.csv").assign(training_seconds=[1.0, 5.0])
    figure, _, _ = comparisons.cost_and_benefit(runs, statistics.by_method(runs, 40))
    axes = next(axes for axes in figure.axes if "training" in axes.get_xlabel())
    front = next(line for line in axes.lines if line.get_linestyle() == ":")
    assert front.get_xydata().tolist() == [[1, 90], [axes.get_xlim()[1], 90]]
    assert axes.get_xlim()[1] > 5


def test_the_mean_curve_ends_where_the_first_seed_stopped(tmp_path):
    add(tmp_path, "lora", 0, epochs=4), add(tmp_path, "lora", 1, epochs=2)
    history = records.read_csv(tmp_path / "history.csv")
    history.loc[history["seed"] == 1, "validation_loss"] += 0.2
    runs = records.read_csv(tmp_path / "runs.csv")
    figure, note, _ = curves.learning_curves(history, runs, "epoch", "epochs")
    mean, alone, _ = (line.get_xydata().tolist() for line in figure.axes[1].lines)
    assert mean == [[1, pytest.approx(1.0)], [2, pytest.approx(0.55)]]
    assert alone == [[2, 0.45], [3, pytest.approx(0.3)], [4, 0.225]]
    assert "bands: from lowest to highest seed" in note and "thin lines" in note
    band = figure.axes[1].collections[0].get_paths()[0].vertices
    assert band[:, 0].max() == 2 and band[:, 1].max() == pytest.approx(1.1)


def test_one_seed_has_no_band(tmp_path):
    add(tmp_path, "lora", 0)
    history, runs = (records.read_csv(tmp_path / f"{name}.csv") for name in ("history", "runs"))
    figure, note, _ = curves.learning_curves(history, runs, "seconds", "s")
    assert not figure.axes[0].collections and "band" not in note


def test_confusion_counts_are_scikit_learns():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 4, 200), random.normal(size=(200, 5))
    expected = confusion_matrix(labels, logits.argmax(1), labels=range(5))
    assert (matrices.confusion(labels, logits) == expected).all()


def test_a_choice_at_the_edge_is_warned_of(tmp_path):
    add_tuning(tmp_path)
    assert curves.tuning_figure(tmp_path).read_bytes().startswith(b"\x89PNG")
    tuned = curves.read_tuning(tmp_path)
    assert curves.edge_note(tuned).endswith("head-only")
    assert "lies between" in curves.edge_note(tuned.assign(at_edge=False))


def test_tuning_without_its_table_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tuning\.csv is missing"):
        curves.tuning_figure(tmp_path)


def test_the_command_prints_paths_or_one_line(tmp_path, capsys):
    records.open_experiment(tmp_path, EXPERIMENT)
    assert plots.command(plots.make_plots, [str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} has no finished runs\n"
    add(tmp_path, "head", 0)
    assert plots.command(plots.make_plots, [str(tmp_path)]) == 0
    assert str(tmp_path / "confusion.png") in capsys.readouterr().out.splitlines()
    records.write(tmp_path / "history.csv", pd.DataFrame({"method": ["head"]}).to_csv())
    assert plots.command(plots.make_plots, [str(tmp_path)]) == 2
    assert "history.csv is damaged" in capsys.readouterr().err
