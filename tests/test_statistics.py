"""Intervals and tests against closed forms, and against simulations with a known truth.

Simulations make up reviews whose difficulty all methods share, and seeds that move a method's
accuracy; both are drawn anew each time. Bands are four standard errors of the simulation wide.
"""

from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.statistics import Setting, experiment, measure
from evaluation import convergence, statistics

SIMULATIONS = 400


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
        {"method": method, "seed": seed, "test_accuracy": accuracy}
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


def test_many_intervals_at_once_are_the_single_ones():
    low, high = statistics.wilson(np.array([660, 800, 0, 1000]), 1000)
    singles = [statistics.wilson(right, 1000) for right in (660, 800, 0, 1000)]
    assert list(zip(low, high, strict=True)) == singles
    assert (singles[2][0], singles[3][1]) == pytest.approx((0, 1), abs=1e-15)


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
    columns = ["difference", "low", "high", "p", "minimum_detectable_effect"]
    every = statistics.compare(dict(reversed(right.items()))).set_index(["method_a", "method_b"])
    alone = statistics.compare({m: right[m] for m in "01"}).set_index(["method_a", "method_b"])
    assert every.loc[("1", "0"), columns].tolist() == alone.loc[("1", "0"), columns].tolist()
    assert (every["difference"] > 0).all()


def test_one_method_has_no_pair():
    assert len(statistics.compare({"head": np.ones((1, 4), bool)})) == 0


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
    got = measure(rng, Setting(n, seeds, seed_sd, (0.82, 0.80)), SIMULATIONS)
    assert got["coverage"] >= 0.95 - error(0.05, SIMULATIONS)
    assert got["coverage"] <= most + error(1 - most, SIMULATIONS)


def test_no_difference_is_claimed_among_four_equal_methods_too_often(few_resamples):
    rng = np.random.default_rng(5)
    for seeds, sd in (((1,) * 4, 0.0), ((3,) * 4, 0.005)):
        got = measure(rng, Setting(500, seeds, sd), 200)
        assert got["claims"] <= 0.05 + error(0.05, 200)
        assert got["experiments_with_a_claim"] <= 0.05 + error(0.05, 200)
        assert got["claims"] > 0.005  # nor is nothing ever claimed


def test_four_of_five_differences_of_the_minimum_detectable_effect_are_found(few_resamples):
    rng = np.random.default_rng(6)
    effect = measure(rng, Setting(1000, (1, 1), 0.0), 50)["minimum_detectable_points"] / 100
    got = measure(rng, Setting(1000, (1, 1), 0.0, (0.8 + effect, 0.8)), SIMULATIONS)
    assert got["claims"] == pytest.approx(0.8, abs=0.03 + error(0.8, SIMULATIONS))


# ------------------------------------------------------------------ convergence


def history():
    accuracies = {("lora", 0): [0.70, 0.898, 0.90], ("lora", 1): [0.86, 0.80], ("head", 0): [0.8]}
    rows = [
        {"method": m, "seed": s, "epoch": e / 4, "step": 38 * e, "seconds": 1.5 * e}
        | {"validation_accuracy": accuracy}
        for (m, s), values in accuracies.items()
        for e, accuracy in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows[::-1])


def test_convergence_is_read_off_the_first_evaluation_that_gets_there():
    table = convergence.by_run(history()).set_index(["method", "seed"])
    own = ["own_target", "own_epochs", "own_steps", "own_seconds"]
    assert table.loc[("lora", 0), own].tolist() == pytest.approx([0.891, 0.5, 76, 3.0])
    assert table.loc[("lora", 1), own].tolist() == pytest.approx([0.8514, 0.25, 38, 1.5])
    assert set(table["common_target"]) == {0.8}
    steps = {("head", 0): 38, ("lora", 1): 38, ("lora", 0): 76}
    assert table["common_steps"].to_dict() == steps
    assert table.loc[("lora", 0), ["common_epochs", "common_seconds"]].tolist() == [0.5, 3.0]
    assert convergence.resolution(history()) == 38


def test_convergence_of_a_method_has_students_interval_over_its_seeds():
    table = convergence.by_method(convergence.by_run(history())).set_index("method")
    mean, half = 57, 12.706205 * 19  # t with one degree of freedom; sd / sqrt(2) = 38 / 2
    row = table.loc["lora", ["common_steps", "common_steps_low", "common_steps_high"]]
    assert row.tolist() == pytest.approx([mean, mean - half, mean + half])
    assert table.loc["head", "common_steps"] == 38
    assert np.isnan(table.loc["head", "common_steps_low"]) and table.loc["head", "seeds"] == 1


def test_the_difference_in_steps_has_welchs_interval_and_the_evaluations_distance_beside_it():
    slow, fast = np.array([200.0, 230, 215]), np.array([100.0, 104])
    a, b = 15**2 / 3, 8 / 2  # variances of the two means
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 1)
    half = stats.t.ppf(0.975, freedom) * (a + b) ** 0.5
    expected = 113 - half, 113 + half
    assert convergence.difference(slow, fast) == pytest.approx(expected)
    wider = expected[0] - 10, expected[1] + 10
    assert convergence.difference(slow, fast, between=10) == pytest.approx(wider)
    assert convergence.difference(slow[:1].repeat(3), fast[:1].repeat(2), 10) == (90, 110)
    assert np.isnan(convergence.difference(slow[:1], fast, 10)).all()


def test_the_interval_of_the_difference_in_steps_holds_the_truth():
    """Steps read off every 10: the true ones lie anywhere below, by up to 10."""
    rng, held = np.random.default_rng(0), []
    for _ in range(1000):
        slow, fast = rng.normal(200, 12, 3), rng.normal(120, 25, 4)
        read = (np.ceil(values / 10) * 10 for values in (slow, fast))
        low, high = convergence.difference(*read, between=10)
        held.append(low <= 80 <= high)
    assert np.mean(held) >= 0.95 - error(0.05, 1000)
