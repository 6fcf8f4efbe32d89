"""Figures say what the files say, and a method looks the same in all of them."""

import colorsys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from made_up import add, begin
from matplotlib.colors import to_rgb

from evaluation import comparisons, curves, plots, style
from evaluation.results import Results

SCORES = {"accuracies", "overview"}
LEARNT = {"learning_curves_epochs", "learning_rates"}
COMPARED = {"differences"}
VARIANTS = ["tfidf", "head", "lora", *(f"lora(rank={rank})" for rank in (1, 4, 64))]
VARIANTS += ["lora(targets=('q', 'v'), rank=8)", *(f"adapter(bottleneck={m})" for m in (4, 16, 64))]
VARIANTS += ["full", "mine"]


@pytest.fixture
def drawn(monkeypatch):
    """The names of an experiment's figures, which are drawn but not rendered."""
    monkeypatch.setattr(plots, "save", lambda path, drawn, *_: style.plt.close(drawn[0]) or path)
    return lambda folder: {path.stem for path in plots.draw(Results.read(folder))}


def test_every_figure_is_drawn_in_less_than_a_second_and_failed_runs_are_left_out(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0), add(tmp_path, "lora", 0), add(tmp_path, "lora", 1, right=33, epochs=1)
    add(tmp_path, "tfidf", 0), add(tmp_path, "adapter", 0, status="failed: loss")
    start = time.process_time()
    written = plots.draw(Results.read(tmp_path))
    assert time.process_time() - start < len(written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert {path.name for path in written} == {path.name for path in tmp_path.glob("*.png")}
    assert {path.stem for path in written} == SCORES | LEARNT | COMPARED


@pytest.mark.parametrize(("method", "figures"), [("head", LEARNT), ("tfidf", set())])
def test_one_run_is_compared_with_none_and_baselines_do_not_learn(tmp_path, drawn, method, figures):
    begin(tmp_path)
    add(tmp_path, method, 0)
    assert drawn(tmp_path) == SCORES | figures


def test_the_overviews_bars_are_the_means_of_the_runs(tmp_path):
    begin(tmp_path)
    add(tmp_path, "tfidf", 0), add(tmp_path, "lora", 0), add(tmp_path, "lora", 1, right=33)
    results = Results.read(tmp_path)
    figure, _, _ = comparisons.overview(results)
    panels = {axes.get_xlabel(): axes for axes in figure.axes if axes.get_visible()}
    runs, order = results.runs, results.runs["method"].unique()
    for column, label, scale in [
        ("train_accuracy", "training accuracy (%)", 100),
        ("trainable_percentage", "trained parameters (% of all)", 1),
    ]:
        means = scale * runs.groupby("method")[column].mean()[order].fillna(0)
        widths = [bar.get_width() for bar in panels[label].patches]
        assert widths == pytest.approx(means.tolist())
    written = [text.get_text() for text in panels["training accuracy (%)"].texts]
    shares = runs.groupby("method")["train_accuracy"].mean()[order]
    assert written == [f"{100 * share:.1f}" for share in shares]  # as in the tables
    losses = {"test loss (nats per text)", "training loss (nats per text)"}
    assert {*losses, "training and frozen blocks (s)"} <= set(panels)


def test_a_variant_is_named_by_its_method_and_what_is_varied():
    labels = {method: look.label for method, look in style.looks(VARIANTS, {}).items()}
    assert labels["lora"] == "LoRA" and labels["lora(rank=4)"] == "LoRA (rank=4)"
    assert labels["lora(targets=('q', 'v'), rank=8)"] == "LoRA (targets=q, v, rank=8)"
    rate = "adapter(learning_rate=0.00001)"
    assert style.looks([rate], {})[rate].label == "adapters (learning_rate=1e-05)"
    own = style.looks(["mine", "lora", "yours"], {})
    assert own["mine"][:2] == ("mine", "#000000") and own["yours"].colour != own["mine"].colour
    assert style.looks(["a b("], {})["a b("].label == "a b("


def test_variants_have_their_methods_hue_and_each_a_look_of_its_own():
    looks = style.looks(VARIANTS, {})
    assert list(looks) == VARIANTS
    assert len({look.marker for look in looks.values()}) == len(VARIANTS)
    hue = colorsys.rgb_to_hsv(*to_rgb(style.LOOKS["lora"].colour))[0]
    lora = [look for method, look in looks.items() if method.startswith("lora")]
    for look in lora:
        assert colorsys.rgb_to_hsv(*to_rgb(look.colour))[0] == pytest.approx(hue, abs=0.02)
    grey = np.array([to_rgb(look.colour) for look in lora]) @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0.05).all()  # in grey print too


def test_a_method_without_values_looks_the_same_beside_its_variants_and_alone():
    for methods in (["probe", "probe(labels=0.5)"], ["lora(rank=4)", "lora(rank=8)", "lora"]):
        name = methods[-1] if methods[-1] in style.LOOKS else methods[0]
        looks = style.looks(methods, {})
        assert looks[name] == style.LOOKS[name] and list(looks) == methods
        assert len({look.colour for look in looks.values()}) == len(methods)


def test_a_method_on_part_of_the_labels_is_in_no_figure_of_the_largest_differences(tmp_path):
    begin(tmp_path, constants={"methods": ["probe", "probe(labels=0.5)", "tfidf"]})
    for method, right in (("probe", 30), ("probe(labels=0.5)", 16), ("tfidf", 28)):
        add(tmp_path, method, 0, right=right)
    figure, note, _ = comparisons.differences(Results.read(tmp_path))
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["probe −\nTF-IDF"]
    assert "not shown" in comparisons.accuracies(Results.read(tmp_path))[1]
    assert "the 1 difference among methods with all labels; the report has all 3 pairs" in note


def test_a_combination_is_named_by_its_parts_and_has_the_first_ones_hue():
    looks = style.looks(["probe+tfidf", "lora(rank=1e+1)+tfidf", "lora", "a+b("], {})
    assert looks["probe+tfidf"].label == "probe + TF-IDF"
    assert looks["lora(rank=1e+1)+tfidf"].label == "LoRA (rank=10) + TF-IDF"
    assert looks["lora"] == style.LOOKS["lora"] and looks["a+b("].label == "a+b("
    dark, light = (to_rgb(look.colour) for look in (looks["probe+tfidf"], style.LOOKS["probe"]))
    assert colorsys.rgb_to_hsv(*dark)[0] == pytest.approx(colorsys.rgb_to_hsv(*light)[0], abs=0.02)
    assert sum(dark) < sum(light)


def test_twelve_variants_are_drawn_and_the_best_ones_differences_are_shown(tmp_path, drawn):
    begin(tmp_path, constants={"methods": VARIANTS})
    for i, method in enumerate(VARIANTS):
        add(tmp_path, method, 0, right=16 + 2 * i)
    results = Results.read(tmp_path)
    assert len(results.looks) == 12 and len(results.comparisons) == 66
    figure, note, _ = comparisons.differences(results)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == 11 and all(name.startswith("mine −\n") for name in names)
    assert "the 11 differences of mine; the report has all 66 pairs" in note
    assert drawn(tmp_path) == SCORES | LEARNT | COMPARED


def test_verdicts_are_told_apart_in_grey_print():
    looks = [(marker, face == "white") for _, marker, face, _ in comparisons.VERDICTS.values()]
    assert len(set(looks)) == len(looks) == 3


def test_accuracies_have_their_intervals_and_a_ring_for_each_seed(tmp_path):
    begin(tmp_path)
    for seed, right in ((0, 30), (1, 31), (2, 32)):
        add(tmp_path, "lora", seed, right)
    add(tmp_path, "head", 0, 20), add(tmp_path, "tfidf", 0, 20)
    results = Results.read(tmp_path)
    figure, note, _ = comparisons.accuracies(results)
    (axes,) = figure.axes
    segments = [segment for c in axes.collections for segment in c.get_segments()]
    ends = results.intervals[["accuracy_low", "accuracy_high"]].dropna()
    assert len(ends) == 2  # one run cannot tell what other seeds would give
    drawn = sorted(segment[:, 0].tolist() for segment in segments if np.ptp(segment[:, 0]))
    np.testing.assert_allclose(drawn, sorted((100 * ends).to_numpy().tolist()))
    (rings,) = [line for line in axes.lines if line.get_markersize() == 4]
    np.testing.assert_allclose(rings.get_xdata(), [75, 77.5, 80])
    assert "error bars: 95 % intervals, of other seeds and other texts" in note
    assert "rings: single seeds" in note


def test_a_point_without_an_interval_and_one_rounding_off_have_bars_that_matplotlib_takes():
    axes = style.plt.subplots()[1]
    ends = np.array([np.nan, 0.5 + 1e-16, 0.2]), np.array([np.nan, 0.5, 0.5 - 1e-16])
    style.error_bar(axes, np.array([0.5, 0.5, 0.5]), np.arange(3), ends, across=True)
    (bars,) = axes.collections
    widths = [segment[1, 0] - segment[0, 0] for segment in bars.get_segments() if len(segment)]
    assert np.nanmax(widths) == pytest.approx(0.3) and np.nanmin(widths) >= 0


def test_the_mean_curve_ends_where_the_first_seed_stopped(tmp_path):
    begin(tmp_path)
    add(tmp_path, "lora", 0, epochs=3), add(tmp_path, "lora", 1, epochs=1)
    path = tmp_path / "lora-seed1" / "history.csv"
    history = pd.read_csv(path)
    history["validation_loss"] += 0.2
    other = history.assign(learning_rate=0.1, validation_loss=9.0)  # it did not choose that one
    pd.concat([other, history]).to_csv(path, index=False)
    figure, _, _ = curves.learning_curves(Results.read(tmp_path))
    axes = next(axes for axes in figure.axes if axes.get_title() == "validation loss")
    mean, rings = (line.get_xydata() for line in axes.lines)
    np.testing.assert_allclose(mean, [[1 / 3, 0.9 + 0.1], [1, 0.3 + 0.1]])
    np.testing.assert_allclose(rings[:, 0], [3, 1])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 0].max() == 1 and band[:, 1].max() == pytest.approx(1.1)
    assert axes.get_ylim() == figure.axes[0].get_ylim()  # both losses have one scale
    assert axes.get_xscale() == "log"


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


def test_learning_rates_are_a_line_a_method_with_rings_where_a_seed_chose(tmp_path):
    begin(tmp_path)
    tried = {0: (0.6, 0.4, None), 1: (0.3, 0.5, 0.9)}
    for seed, losses in tried.items():
        losses = dict(zip(("0.001", "0.01", "0.1"), losses, strict=True))
        chosen = min((loss, float(rate)) for rate, loss in losses.items() if loss)[1]
        add(tmp_path, "lora", seed, record={"rates_tried": losses, "learning_rate": chosen})
    add(tmp_path, "head", 0, record={"rates_tried": {"0.01": 0.5}})  # one alone was not chosen
    figure, note, handles = curves.learning_rates(Results.read(tmp_path))
    line, rings = (line.get_xydata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(line, [[0.001, 0.45], [0.01, 0.45], [0.1, np.nan]])
    np.testing.assert_allclose(rings, [[0.001, 0.45], [0.01, 0.45]])
    assert [handle.get_label() for handle in handles] == ["LoRA", "chosen"]
    assert "not finite" in note


def test_a_dollar_sign_is_drawn_as_it_is(tmp_path):
    price, other = "a$_{x}$", "$\\frac{$"
    begin(tmp_path, data_set=f"/home/{price}/{other}.csv", label_names=[price, other])
    for seed in (0, 1):
        add(tmp_path, f"mine{other}", seed, labels=[price, other])
        add(tmp_path, "lora", seed, labels=[price, other])
    with warnings.catch_warnings(record=True) as noted:
        names = {path.stem for path in plots.draw(Results.read(tmp_path))}
    assert names >= {"accuracies", "learning_curves_epochs", "differences"} and not noted
