"""Figures say what the files say, and a method looks the same in all of them."""

import colorsys
import re

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_depths, add_tuning, begin
from matplotlib.colors import to_rgb

from evaluation import comparisons, curves, plots, statistics, style
from evaluation.results import Results

ALWAYS = {
    *("train_accuracy", "test_accuracy", "train_loss", "test_loss", "trainable_percentage"),
    *("training_time", "learning_curves_epochs"),
}
COMPARED = {"differences", "cost_and_benefit"}
VARIANTS = ["tfidf", "head", "lora", *(f"lora(rank={rank})" for rank in (1, 4, 64))]
VARIANTS += ["lora(targets=('q', 'v'), rank=8)", *(f"adapter(bottleneck={m})" for m in (4, 16, 64))]
VARIANTS += ["full", "mine"]


@pytest.fixture(autouse=True)
def closed():
    yield
    style.plt.close("all")


@pytest.fixture
def drawn(monkeypatch):
    """The names of an experiment's figures, which are drawn but not rendered."""
    monkeypatch.setattr(plots, "save", lambda path, drawn, *_: style.plt.close(drawn[0]) or path)
    return lambda folder: {path.stem for path in plots.draw(Results.read(folder))}


def test_every_figure_is_drawn_and_failed_runs_are_left_out(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0), add(tmp_path, "lora", 0), add(tmp_path, "lora", 1, right=33, epochs=1)
    add(tmp_path, "tfidf", 0), add(tmp_path, "adapter", 0, status="failed: loss")
    written = plots.draw(Results.read(tmp_path))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert {path.name for path in written} == {path.name for path in tmp_path.glob("*.png")}
    assert {path.stem for path in written} == ALWAYS | COMPARED
    assert not list(tmp_path.rglob("*.part"))


def test_one_run_is_enough_and_is_compared_with_nothing(tmp_path, drawn):
    begin(tmp_path)
    add(tmp_path, "head", 0)
    assert drawn(tmp_path) == ALWAYS


def test_a_baseline_alone_has_no_learning_curves_and_no_trained_share(tmp_path, drawn):
    begin(tmp_path)
    add(tmp_path, "tfidf", 0)
    assert drawn(tmp_path) == ALWAYS - {"learning_curves_epochs", "trainable_percentage"}


@pytest.mark.parametrize("classes", [7, 30])
def test_many_labels_and_a_method_of_ones_own_are_drawn(tmp_path, classes, drawn):
    labels = [f"label {c} of a $5_ to $6^ name" for c in range(classes)]
    begin(tmp_path, label_names=labels)
    add(tmp_path, "mine", 0, labels=labels), add(tmp_path, "head", 0, 20, labels=labels)
    assert drawn(tmp_path) == ALWAYS | COMPARED


# ------------------------------------------------------------------ looks


def test_a_variant_is_named_by_its_method_and_what_is_varied():
    labels = {method: look.label for method, look in style.looks(VARIANTS).items()}
    assert labels["lora"] == "LoRA" and labels["lora(rank=4)"] == "LoRA (rank=4)"
    assert labels["lora(targets=('q', 'v'), rank=8)"] == "LoRA (targets=q, v, rank=8)"
    rate = "adapter(learning_rate=0.00001)"
    assert style.looks([rate])[rate].label == "adapters (learning_rate=1e-05)"
    own = style.looks(["mine", "lora", "yours"])
    assert own["mine"][:2] == ("mine", "#000000") and own["yours"].colour != own["mine"].colour
    assert style.looks(["a b("])["a b("].label == "a b("


def test_variants_have_their_methods_hue_and_each_a_look_of_its_own():
    looks = style.looks(VARIANTS)
    assert list(looks) == VARIANTS
    assert len({look.marker for look in looks.values()}) == len(VARIANTS)
    hue = colorsys.rgb_to_hsv(*to_rgb(style.METHODS["lora"].colour))[0]
    lora = [look for method, look in looks.items() if method.startswith("lora")]
    assert len({look.hatch for look in lora}) == len({look.line for look in lora}) == len(lora)
    for look in lora:
        assert colorsys.rgb_to_hsv(*to_rgb(look.colour))[0] == pytest.approx(hue, abs=0.02)
    grey = np.array([to_rgb(look.colour) for look in lora]) @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0.05).all()  # in grey print too


def test_a_method_alone_looks_as_in_the_table_whatever_else_is_there():
    for method, look in style.METHODS.items():
        assert style.looks([method, "mine"])[method] == look


def test_twelve_variants_are_drawn_and_the_figure_has_the_largest_differences(tmp_path, drawn):
    begin(tmp_path, constants=EXPERIMENT["constants"] | {"methods": VARIANTS})
    for i, method in enumerate(VARIANTS):
        add(tmp_path, method, 0, right=16 + 2 * i)
    results = Results.read(tmp_path)
    assert len(results.looks) == 12 and len(results.comparisons) == 66
    figure, note, _ = comparisons.differences(results)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == 15 and names[0] == "mine −\nTF-IDF"
    assert "the 15 largest differences; the report has all 66 pairs" in note
    assert drawn(tmp_path) == ALWAYS | COMPARED


# ------------------------------------------------------------------ bars and points


def test_error_bars_of_the_test_accuracy_are_the_intervals(tmp_path):
    begin(tmp_path)
    for seed, right in ((0, 30), (1, 31), (2, 32)):
        add(tmp_path, "lora", seed, right)
    add(tmp_path, "tfidf", 0, 20)
    results = Results.read(tmp_path)
    figure, note, _ = comparisons.bars(results, "test_accuracy", comparisons.ACCURACY)
    bars = [c for c in figure.axes[0].collections if len(c.get_segments()) == 1]
    ends = [bar.get_segments()[0][:, 0] for bar in bars]
    np.testing.assert_allclose(ends, 100 * results.intervals[["low", "high"]].to_numpy())
    mean, half = 31 / 40, 4.302652729911275 / 40 / 3**0.5  # t with 2 d.f., sd 1 review
    np.testing.assert_allclose(ends[0], [100 * (mean - half), 100 * (mean + half)])
    assert "t over 3 seeds; Wilson, seeds not varied for TF-IDF" in note
    assert "white dots: single seeds" in note


@pytest.mark.parametrize(("largest", "scale"), [(1300, "linear"), (3100, "log")])
def test_an_axis_of_costs_is_logarithmic_where_matplotlib_can_label_it(tmp_path, largest, scale):
    begin(tmp_path)
    for method, parameters in (("head", 100), ("lora", largest)):
        add(tmp_path, method, 0, record={"trainable_parameters": parameters})
    figure, *_ = comparisons.cost_and_benefit(Results.read(tmp_path))
    assert figure.axes[0].get_xscale() == scale


def test_times_hold_the_shared_pass_and_say_so_where_there_is_one(tmp_path):
    begin(tmp_path)
    add(tmp_path, "tfidf", 0)
    scale = comparisons.BARS["training_time"][2]
    note = comparisons.bars(Results.read(tmp_path), "total_seconds", scale)[1]
    assert "shared" not in note and "dots" not in note  # one run has no mean
    add_depths(tmp_path, ["lora"])
    figure, note, _ = comparisons.bars(Results.read(tmp_path), "total_seconds", scale)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["16", "17.5", "19", "20.5", "22", "23.5", "25", "3"]
    assert "training holds the whole shared pass" in note


class Recorder:
    """Axes that see to it that matplotlib would take an error bar."""

    def errorbar(self, x, y, **style):
        assert (style.get("xerr", style.get("yerr")) >= 0).all()


def test_ordinary_accuracies_have_intervals_and_error_bars_at_their_place():
    """Equal seeds, all right, none right, one review: an end may be one rounding off."""
    rng, axes = np.random.default_rng(0), Recorder()
    for n in (1, 2, 43, 60, *rng.integers(1, 3001, 8)):
        rows = []
        for method in range(150):
            right = rng.integers(n + 1, size=rng.integers(1, 6))
            right[:] = [right, right[0], 0, n][rng.integers(4)]
            rows += [{"method": method, "test_accuracy": r / n, "reviews": n} for r in right]
        points = 100 * statistics.by_method(pd.DataFrame(rows))[["accuracy", "low", "high"]]
        style.error_bar(axes, points["accuracy"], 0, (points["low"], points["high"]), across=True)
        style.error_bar(axes, 0, points["accuracy"], (points["low"], points["high"]))
    for _ in range(25):
        n, seeds = int(rng.integers(1, 60)), rng.integers(1, 4, 2)
        shares = [rng.choice([0, 0.9, 1]) for _ in "ab"]
        right = {m: rng.random((s, n)) < p for m, s, p in zip("ab", seeds, shares, strict=True)}
        row = statistics.compare(right).iloc[0]
        assert row[["difference", "low", "high", "p", "p_equivalent"]].notna().all()
        style.error_bar(axes, row["difference"], 0, (row["low"], row["high"]), across=True)


# ------------------------------------------------------------------ curves


def test_the_mean_curve_ends_where_the_first_seed_stopped(tmp_path):
    begin(tmp_path)
    add(tmp_path, "lora", 0, epochs=3), add(tmp_path, "lora", 1, epochs=1)
    path = tmp_path / "lora-seed1" / "history.csv"
    history = pd.read_csv(path)
    history["validation_loss"] += 0.2
    history.to_csv(path, index=False)
    figure, _, _ = curves.learning_curves(Results.read(tmp_path))
    axes = next(axes for axes in figure.axes if axes.get_title() == "validation loss")
    mean, rings = (line.get_xydata() for line in axes.lines)
    np.testing.assert_allclose(mean, [[1 / 3, 0.9 + 0.1], [1, 0.3 + 0.1]])
    np.testing.assert_allclose(rings[:, 0], [3, 1])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 0].max() == 1 and band[:, 1].max() == pytest.approx(1.1)
    assert axes.get_ylim() == figure.axes[0].get_ylim()  # both losses have one scale


def test_the_mean_curve_is_of_all_seeds_where_their_epochs_have_other_steps(tmp_path):
    begin(tmp_path)
    for seed, later in ((0, 0.0), (1, 0.1)):
        add(tmp_path, "lora", seed)
        path = tmp_path / f"lora-seed{seed}" / "history.csv"
        history = pd.read_csv(path)
        history["epoch"] += later
        history.to_csv(path, index=False)
    figure, _, _ = curves.learning_curves(Results.read(tmp_path))
    x = figure.axes[0].lines[0].get_xdata()
    np.testing.assert_allclose(x, history["epoch"] - 0.05)


def test_side_tuning_which_freezes_all_blocks_is_drawn_at_no_depth_that_there_is_not(tmp_path):
    begin(tmp_path)
    add_depths(tmp_path, methods=["side"])
    for path in tmp_path.glob("side*/run.json"):
        path.write_text(re.sub(r'"frozen_blocks": \d', '"frozen_blocks": 6', path.read_text()))
        if "=4" in path.parent.name:  # None: all
            path.write_text(path.read_text().replace('"blocks": 4', '"blocks": null'))
    figure, *_ = curves.hyperparameter(Results.read(tmp_path), "blocks")
    drawn = {x for line in figure.axes[0].lines for x in line.get_xdata()}
    assert drawn == {1, 2, 3, 5, 6}


def test_a_hyperparameter_that_variants_differ_in_alone_is_a_line_of_accuracies(tmp_path):
    begin(tmp_path)
    add_depths(tmp_path)
    add(tmp_path, "lora(blocks=1, rank=2)", 0, record={"hyperparameters": {"blocks": 1}})
    add(tmp_path, "tfidf", 0, right=20, record={"hyperparameters": {}})
    path = tmp_path / "lora-blocks=6-seed0" / "run.json"  # None: all blocks
    path.write_text(path.read_text().replace('"blocks": 6', '"blocks": null'))
    results = Results.read(tmp_path)
    figure, note, handles = curves.hyperparameter(results, "blocks")
    lines = {line.get_color(): line for line in figure.axes[0].lines if line.get_marker() in "^s"}
    accuracies = results.intervals.set_index("method")["accuracy"]
    for method in ("lora", "adapter"):
        x, y = lines[style.METHODS[method].colour].get_xydata().T
        expected = [accuracies[f"{method}(blocks={n})"] for n in range(1, 7)]
        np.testing.assert_allclose(x, range(1, 7))
        np.testing.assert_allclose(y, 100 * np.array(expected))
    assert [handle.get_label() for handle in handles] == ["adapters", "LoRA", "TF-IDF"]
    (level,) = [line for line in figure.axes[0].lines if line.get_color() == "#56B4E9"]
    assert list(level.get_ydata()) == [50, 50]
    assert "error bars: 95 %, t over 3 seeds" in note


def test_a_methods_learning_rates_are_a_line_with_a_dot_for_each_seed(tmp_path):
    begin(tmp_path)
    rates = (0.1, 0.001, 0.01)  # the second has no variant: it is the method's own rate
    for i, text in enumerate(("lora(learning_rate=0.1)", "lora", "lora(learning_rate=0.01)")):
        for seed in range(3):
            record = {"learning_rate": rates[i]}
            add(tmp_path, text, seed, 20 + 5 * i + seed, record=record)
    add(tmp_path, "adapter(learning_rate=0.1)", 0, record={"learning_rate": 0.1})  # alone: no line
    figure, note, handles = curves.hyperparameter(Results.read(tmp_path), "learning_rate")
    line, dots = [line for line in figure.axes[0].lines if line.get_marker() in "^."]
    expected = [[0.001, 100 * 26 / TESTS], [0.01, 100 * 31 / TESTS], [0.1, 100 * 21 / TESTS]]
    np.testing.assert_allclose(line.get_xydata(), expected)
    assert len(dots.get_xdata()) == 9
    assert [handle.get_label() for handle in handles] == ["LoRA"]
    assert curves.hyperparameter(Results.read(tmp_path), "rank") is None


def test_a_broken_run_squeezes_no_other(tmp_path):
    begin(tmp_path)
    for rate in (0.001, 0.01, 0.1):
        for seed in range(3):
            right = 36 + seed if rate < 0.1 else (20, 37, 20)[seed]
            record = {"learning_rate": rate, "hyperparameters": {"blocks": 3}}
            add(tmp_path, f"full(learning_rate={rate})", seed, right, record=record)
    results = Results.read(tmp_path)
    assert results.intervals["low"].min() < 0.2  # t over three seeds that differ much
    figure, _, handles = curves.hyperparameter(results, "learning_rate")
    (axes,) = figure.axes
    accuracies = 100 * results.runs["test_accuracy"]
    ends = accuracies.min() - style.ROOM, accuracies.max() + style.ROOM
    np.testing.assert_allclose(axes.get_ylim(), ends)
    assert "axis cut" in axes.get_ylabel()
    assert [handle.get_label() for handle in handles] == ["fine-tuning of the last 3 blocks"]


@pytest.mark.parametrize("several", [False, True])
def test_rates_have_a_panel_for_each_experiment_and_rings_where_the_loss_is_lowest(
    tmp_path, monkeypatch, several
):
    tables = []
    for name in ("one", "two") if several else ("one",):
        (tmp_path / name).mkdir()
        add_tuning(tmp_path / name)
        tables.append(pd.read_csv(tmp_path / name / "tuning.csv"))
    pd.concat(tables).to_csv(tmp_path / "tuning.csv", index=False)
    kept = []
    monkeypatch.setattr(curves, "save", lambda path, drawn, *_: kept.append(drawn) or path)
    assert curves.tuning_figure(tmp_path / "tuning.csv") == tmp_path / "tuning.png"
    ((figure, _, handles),) = kept
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == (["one", "two"] if several else [""])
    assert {axes.get_xlabel() for axes in shown} == {"learning rate"}
    methods = ["head-only"] if several else ["head-only", "LoRA (rank=4)"]  # variants: of one alone
    assert [handle.get_label() for handle in handles] == [*methods, "chosen"]
    for axes in shown:
        head, *_, rings = axes.get_lines()
        assert head.get_xydata().tolist() == [[1e-4, 0.7], [1e-3, 0.6], [1e-2, 0.5]]
        best = [[1e-2, 0.5]] + [[1e-3, 0.4]] * (not several)
        assert rings.get_xydata().tolist() == best and axes.get_xscale() == "log"


def test_rates_of_variants_alone_are_drawn_of_several_experiments_too(tmp_path, monkeypatch):
    add_tuning(tmp_path)
    variants = pd.read_csv(tmp_path / "tuning.csv").query("method != 'head'")
    tables = [variants.assign(experiment=name) for name in ("one", "two")]
    pd.concat(tables).to_csv(tmp_path / "tuning.csv", index=False)
    kept = []
    monkeypatch.setattr(curves, "save", lambda path, drawn, *_: kept.append(drawn) or path)
    curves.tuning_figure(tmp_path / "tuning.csv")
    ((figure, *_),) = kept
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
