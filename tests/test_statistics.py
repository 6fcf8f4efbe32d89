"""Intervals and tests against closed forms, and against simulations with a known truth.

Simulations make up reviews whose difficulty all methods share, and seeds that move a method's
accuracy; both are drawn anew each time. Bands are four standard errors of the simulation wide.
"""

import gc
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.statistics import experiment, measure
from evaluation import statistics, style

SIMULATIONS = 400


@pytest.fixture(autouse=True)
def imports_spared():
    """statsmodels' multipletests collects garbage at each call, among all that is imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def few_resamples(monkeypatch):
    """A tenth of the resamples, for the time of simulations: their noise moves coverage little."""
    monkeypatch.setattr(statistics, "RESAMPLES", 499)


def error(rate, trials):
    return 4 * (rate * (1 - rate) / trials) ** 0.5


def pair(only_a, only_b, both, neither):
    """Two methods with one seed each, right on so many reviews."""
    a = [1] * only_a + [0] * only_b + [1] * both + [0] * neither
    b = [0] * only_a + [1] * only_b + [1] * both + [0] * neither
    return {"lora": np.array([a], bool), "head": np.array([b], bool)}


def runs(**accuracies):
    rows = [
        {"method": method, "seed": seed, "status": "finished", "test_accuracy": accuracy}
        for method, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ one method


@pytest.mark.parametrize(("right", "n"), [(0, 10), (801, 1000), (7, 7), (23_000, 25_000)])
def test_wilson_is_its_closed_form(right, n):
    z, share = stats.norm.ppf(0.975), right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    expected = centre - half, centre + half
    assert statistics.wilson(right, n) == pytest.approx(expected, abs=1e-12)
    again = stats.binomtest(right, n).proportion_ci(0.9, method="wilson")
    assert statistics.wilson(right, n, 0.9) == pytest.approx((again.low, again.high), abs=1e-12)


def test_wilson_holds_the_truth_as_often_as_it_claims():
    rng = np.random.default_rng(0)
    for n in (100, 500):
        low, high = np.array([statistics.wilson(right, n) for right in range(n + 1)]).T
        truth = rng.uniform(0.6, 0.95, 20_000)  # for a single truth it swings: counts are whole
        right = rng.binomial(n, truth)
        held = (low[right] <= truth) & (truth <= high[right])
        assert held.mean() == pytest.approx(0.95, abs=error(0.05, 20_000))


def test_every_run_gets_its_interval_and_a_failed_one_gets_none():
    table = runs(head=[0.66], lora=[0.8, float("nan")])
    table.loc[2, "status"] = "failed: loss"
    table = statistics.run_intervals(table, 1000)
    got = table[["test_accuracy_low", "test_accuracy_high"]].to_numpy()
    assert got[:2].tolist() == [list(statistics.wilson(k, 1000)) for k in (660, 800)]
    assert np.isnan(got[2]).all()
    assert statistics.by_method(table, 1000)["seeds"].tolist() == [1, 1]


def test_a_method_gets_the_t_interval_of_its_seeds_or_wilsons_of_its_only_one():
    table = statistics.by_method(runs(lora=[0.80, 0.82, 0.87], tfidf=[0.75], head=[0.99, 1.0]), 200)
    assert table["method"].tolist() == ["lora", "tfidf", "head"]
    lora, tfidf, head = table.to_dict("records")
    half = 4.302653 * 0.0360555 / 3**0.5  # t with 2 degrees of freedom, sd = sqrt(0.0026 / 2)
    assert lora["accuracy"] == pytest.approx(0.83) and lora["sd"] == pytest.approx(0.0360555)
    assert (lora["low"], lora["high"]) == pytest.approx((0.83 - half, 0.83 + half), abs=1e-6)
    assert lora["interval"] == "t over 3 seeds"
    assert (tfidf["low"], tfidf["high"]) == statistics.wilson(150, 200)
    assert np.isnan(tfidf["sd"]) and tfidf["interval"] == "Wilson, seeds not varied"
    assert head["high"] == 1.0  # 0.995 + 0.064


# ------------------------------------------------------------------ predictions


def write(folder, name, labels, guesses):
    (folder / "predictions").mkdir(exist_ok=True)
    logits = np.eye(3)[guesses]
    table = pd.DataFrame({"label": labels, **{f"logit_{c}": logits[:, c] for c in range(3)}})
    table.to_csv(folder / "predictions" / f"{name}.csv", index=False)


def test_right_and_wrong_come_from_the_predictions_of_finished_runs(tmp_path):
    table = runs(lora=[0.5, 0.5], head=[0.5, 0.5])
    table.loc[3, "status"] = "failed: loss"
    write(tmp_path, "lora-seed0", [0, 1, 2], [0, 1, 1])
    write(tmp_path, "lora-seed1", [0, 1, 2], [2, 1, 2])
    write(tmp_path, "head-seed0", [0, 1, 2], [1, 0, 2])
    right = statistics.read_right(tmp_path, table)
    assert list(right) == ["lora", "head"]
    assert right["lora"].tolist() == [[True, True, False], [False, True, True]]
    assert right["head"].tolist() == [[False, False, True]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "head-seed0.csv is missing"),
        ([0, 1], "head-seed0.csv has 2 reviews, not 3"),
        ([0, 2, 1], "head-seed0.csv has other labels"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_by_name(tmp_path, labels, message):
    write(tmp_path, "lora-seed0", [0, 1, 2], [0, 1, 1])
    if labels:
        write(tmp_path, "head-seed0", labels, labels)
    with pytest.raises(ValueError, match=message):
        statistics.read_right(tmp_path, runs(lora=[0.5], head=[0.5]))


# ------------------------------------------------------------------ two methods


def test_one_seed_each_is_tested_by_mcnemars_binomial_sum():
    row = statistics.compare(pair(only_a=14, only_b=4, both=60, neither=22)).iloc[0]
    assert row["p"] == pytest.approx(2 * sum(comb(18, k) for k in range(5)) / 2**18, rel=1e-12)
    assert row["test"] == "exact McNemar" and row["difference"] == pytest.approx(0.10)
    assert statistics.compare(pair(0, 0, 9, 1)).iloc[0]["p"] == 1.0


def test_the_interval_of_one_seed_each_has_bonett_and_prices_width():
    row = statistics.compare(pair(only_a=70, only_b=30, both=700, neither=200)).iloc[0]
    a, b = 71 / 1002, 31 / 1002
    half = 1.959964 * ((a + b - (a - b) ** 2) / 1002) ** 0.5
    assert row["high"] - row["difference"] == pytest.approx(half, rel=0.04)
    assert row["difference"] - row["low"] == pytest.approx(row["high"] - row["difference"])


def test_agreeing_on_every_review_is_no_certainty():
    row = statistics.compare(pair(0, 0, 80, 20)).iloc[0]
    assert row["low"] < -0.01 and row["high"] > 0.01


def test_errors_have_the_variance_of_the_crossed_analysis_of_variance():
    """Reviews, two methods' seeds and their interactions, each once: by the textbook's sums."""
    rng = np.random.default_rng(3)
    a, b = experiment(rng, 1500, (0.8, 0.8), (4, 6), (0.01, 0.02)).values()
    expected, degrees = 0.0, 0.0
    reviews = np.var(a.mean(0) - b.mean(0), ddof=1) / 1500
    for x in (a, b):
        s, n = x.shape
        ss_total = ((x - x.mean()) ** 2).sum()
        ss_seeds = n * ((x.mean(1) - x.mean()) ** 2).sum()
        ss_reviews = s * ((x.mean(0) - x.mean()) ** 2).sum()
        reviews -= (ss_total - ss_seeds - ss_reviews) / ((s - 1) * (n - 1)) / (s * n)
        seeds = ss_seeds / (s - 1) / (s * n)  # mean square, of a mean over S x n
        expected += seeds
        degrees += seeds**2 / (s - 1)
    t = stats.t(expected**2 / degrees)
    drawn = statistics._errors(a, b)
    assert abs(drawn.mean()) < 4 * drawn.std() / len(drawn) ** 0.5
    # The variance of t is not had from draws to a percent: compare the law instead.
    sums = reviews**0.5 * rng.normal(size=400_000) + expected**0.5 * t.rvs(
        400_000, random_state=rng
    )
    for share in (0.5, 0.8, 0.95):
        assert np.quantile(abs(drawn), share) == pytest.approx(
            np.quantile(abs(sums), share), rel=0.05
        )


def test_p_is_under_the_level_where_the_interval_leaves_zero_out():
    rng = np.random.default_rng(0)
    rows = [
        statistics.compare(experiment(rng, 500, (0.82, 0.8), (5, 3), (0.005, 0.005))).iloc[0]
        for _ in range(24)
    ]
    found = [row["p"] < 0.05 for row in rows]
    assert found == [row["low"] > 0 for row in rows]
    assert 0 < sum(found) < 24


def test_holm_multiplies_the_smallest_p_by_the_number_of_pairs_and_so_on():
    rng = np.random.default_rng(1)
    right = experiment(rng, 800, (0.8, 0.83, 0.86), (1, 1, 1), (0, 0, 0))
    table = statistics.compare(right).sort_values("p")
    p = table["p"].tolist()
    assert p[0] < p[1] < p[2] < 0.5
    expected = [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    assert table["p_holm"].tolist() == pytest.approx(expected)


def test_other_methods_and_their_order_change_no_difference_and_no_interval():
    right = experiment(np.random.default_rng(2), 300, (0.7, 0.8, 0.9), (3, 2, 1), (0.01,) * 3)
    columns = ["difference", "low", "high", "p", "visible"]
    every = statistics.compare(dict(reversed(right.items()))).set_index(["method_a", "method_b"])
    alone = statistics.compare({m: right[m] for m in "01"}).set_index(["method_a", "method_b"])
    assert every.loc[("1", "0"), columns].tolist() == alone.loc[("1", "0"), columns].tolist()
    assert (every["difference"] > 0).all()


def test_other_numbers_of_reviews_are_refused_and_one_method_has_no_pair():
    right = {"head": np.ones((1, 4), bool), "lora": np.ones((1, 5), bool)}
    with pytest.raises(ValueError, match="not the same reviews, .*'head': 4, 'lora': 5"):
        statistics.compare(right)
    assert len(statistics.compare({"head": right["head"]})) == 0


# ------------------------------------------------------------------ verdicts


def test_verdicts_say_what_the_numbers_say():
    right = pair(only_a=120, only_b=20, both=700, neither=160)
    verdicts = statistics.compare({"adapter": right["lora"], "head": right["head"]})["verdict"]
    assert verdicts[0].startswith("adapters beat head-only by 10.0 points [7.")
    assert verdicts[0].endswith("(one seed each: seeds were not varied)")
    assert statistics.compare(right)["verdict"][0].startswith("LoRA beats head-only by 10.0 points")
    row = statistics.compare(pair(30, 25, 700, 245)).iloc[0]
    assert row["verdict"].startswith(
        "LoRA and head-only cannot be told apart on this test set: a difference under "
        f"{100 * row['visible']:.1f} points would not have been seen"
    )


def test_verdicts_name_the_method_whose_seeds_were_not_varied():
    right = experiment(np.random.default_rng(0), 500, (0.9, 0.7), (3, 1), (0.002, 0))
    table = statistics.compare({"lora": right["0"], "tfidf": right["1"]})
    assert table["verdict"][0].startswith("LoRA beats TF-IDF by ")
    assert table["verdict"][0].endswith("(one seed of TF-IDF: its seeds were not varied)")
    assert table["test"][0] == "bootstrap over reviews and seeds"
    both = experiment(np.random.default_rng(0), 500, (0.9, 0.7), (3, 3), (0.002, 0.002))
    assert statistics.compare(both)["verdict"][0].endswith("]")


def test_a_verdict_follows_p_after_holm():
    rng = np.random.default_rng(1)
    for _ in range(20):
        table = statistics.compare(experiment(rng, 400, (0.8, 0.8, 0.83), (1,) * 3, (0,) * 3))
        between = (table["p"] < 0.05) & (table["p_holm"] >= 0.05)
        if between.any():
            assert table[between]["verdict"].str.contains("cannot be told apart").all()
            return
    raise AssertionError("no experiment where Holm matters")


# ------------------------------------------------------------------ simulations


@pytest.mark.parametrize(
    ("seeds", "n", "seed_sd", "most"),
    [
        ((1, 1), 500, 0.0, 0.95),
        ((3, 3), 500, 0.005, 0.97),
        ((3, 3), 2500, 0.015, 0.96),
        ((3, 1), 1000, 0.01, 0.98),  # Student's t with 2 degrees of freedom and more: too wide
    ],
)
def test_intervals_of_differences_hold_the_truth(few_resamples, seeds, n, seed_sd, most):
    rng = np.random.default_rng(n)
    got = measure(rng, n, seeds, seed_sd, SIMULATIONS, accuracies=[0.82, 0.80])
    assert got["coverage"] >= 0.95 - error(0.05, SIMULATIONS)
    assert got["coverage"] <= most + error(1 - most, SIMULATIONS)


def test_no_difference_is_claimed_among_four_equal_methods_too_often(few_resamples):
    rng = np.random.default_rng(5)
    for seeds, sd in (((1,) * 4, 0.0), ((3,) * 4, 0.005)):
        got = measure(rng, 500, seeds, sd, 200)
        assert got["claims"] <= 0.05 + error(0.05, 200)
        assert got["experiments_with_a_claim"] <= 0.05 + error(0.05, 200)
        assert got["claims"] > 0.005  # nor is nothing ever claimed


def test_four_of_five_differences_of_the_visible_size_are_seen(few_resamples):
    rng = np.random.default_rng(6)
    visible = measure(rng, 1000, (1, 1), 0.0, 50)["visible_points"] / 100
    got = measure(rng, 1000, (1, 1), 0.0, SIMULATIONS, accuracies=[0.8 + visible, 0.8])
    assert got["claims"] == pytest.approx(0.8, abs=0.03 + error(0.8, SIMULATIONS))


# ------------------------------------------------------------------ convergence


def test_convergence_is_read_off_the_first_epoch_that_gets_there():
    accuracies = {("lora", 0): [0.70, 0.898, 0.90], ("lora", 1): [0.86, 0.80], ("head", 0): [0.8]}
    rows = [
        {"method": m, "seed": s, "epoch": e, "steps": 38 * e, "seconds": 1.5 * e}
        | {"validation_accuracy": accuracy}
        for (m, s), values in accuracies.items()
        for e, accuracy in enumerate(values, start=1)
    ]
    table = statistics.convergence(pd.DataFrame(rows[::-1]))
    table = table.set_index(["method", "seed"])
    own = ["own_target", "own_epochs", "own_steps", "own_seconds"]
    assert table.loc[("lora", 0), own].tolist() == pytest.approx([0.891, 2, 76, 3.0])
    assert table.loc[("lora", 1), own].tolist() == pytest.approx([0.8514, 1, 38, 1.5])
    assert set(table["common_target"]) == {0.8}
    assert table["common_epochs"].to_dict() == {("head", 0): 1, ("lora", 1): 1, ("lora", 0): 2}
    assert table.loc[("lora", 0), ["common_steps", "common_seconds"]].tolist() == [76, 3.0]


def test_figures_and_verdicts_call_methods_the_same():
    assert style.LOOKS.keys() == statistics.NAMES.keys()
