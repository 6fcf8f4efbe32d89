"""Intervals and tests against closed forms, and against simulations with a known truth.

Simulations make up reviews whose difficulty all methods share, and seeds that move a method's
accuracy; both are drawn anew each time. Bands are four standard errors of the simulation wide.
"""

from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation import statistics
from studies.statistics import Setting, experiment, measure

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
        {"method": method, "seed": seed, "test_accuracy": accuracy, "reviews": 200}
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
    table = statistics.by_method(runs(lora=[0.80, 0.82, 0.87], tfidf=[0.75], head=[0.99, 1.0]))
    assert table["method"].tolist() == ["lora", "tfidf", "head"]
    lora, tfidf, head = table.to_dict("records")
    half = 4.302653 * 0.0360555 / 3**0.5  # t with 2 degrees of freedom, sd = sqrt(0.0026 / 2)
    assert lora["accuracy"] == pytest.approx(0.83) and lora["sd"] == pytest.approx(0.0360555)
    assert (lora["low"], lora["high"]) == pytest.approx((0.83 - half, 0.83 + half), abs=1e-6)
    assert lora["interval"] == "t over 3 seeds"
    assert (tfidf["low"], tfidf["high"]) == statistics.wilson(150, 200)
    assert np.isnan(tfidf["sd"]) and tfidf["interval"] == "Wilson, seeds not varied"
    assert head["high"] == 1.0  # 0.995 + 0.064


def test_groups_of_one_are_independent_and_copies_count_once():
    rng = np.random.default_rng(0)
    right = rng.random(300) < 0.8
    assert statistics.independent(right, None) == 300
    assert statistics.independent(right, np.arange(300)) == 300
    copies = np.repeat(right, 4), np.repeat(np.arange(300), 4)
    assert statistics.independent(*copies) == pytest.approx(300, rel=0.02)  # two were added
    apart = np.tile([True, True, True, False], 75), np.repeat(np.arange(75), 4)
    assert statistics.independent(*apart) == 300  # groups that vary less: not more than there are
    by_hand = 4 / ((4 * 1 * 4 / 3) / (8 * 0.25 * 8 / 7))  # two groups of two, and the two added
    assert statistics.independent(np.array([1, 1, 0, 0]), [0, 0, 1, 1]) == pytest.approx(by_hand)
    alike = np.ones(400, bool), np.repeat(np.arange(4), 100)
    assert statistics.independent(*alike) < 40


def test_wilson_of_grouped_reviews_holds_the_truth_as_often_as_it_claims():
    """A group's difficulty is shared: 4 of 5 in the mean, by a beta distribution."""
    rng, held = np.random.default_rng(0), []
    groups = np.repeat(np.arange(150), rng.integers(1, 12, 150))
    for _ in range(SIMULATIONS):
        right = rng.random(len(groups)) < rng.beta(2.4, 0.6, 150)[groups]
        n = statistics.independent(right, groups)
        low, high = statistics.wilson(right.mean() * n, n)
        held.append(low <= 0.8 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=error(0.05, SIMULATIONS))


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


@pytest.mark.parametrize("paired", [True, False])
def test_errors_have_the_variance_of_the_crossed_analysis_of_variance(paired):
    """Reviews, seeds and their interaction, each once: by the textbook's sums."""
    rng = np.random.default_rng(3)
    a, b = experiment(rng, 1500, (0.8, 0.8), (4, 4 if paired else 6), (0.01, 0.02)).values()
    a, b = a.astype(int), b.astype(int)
    parts = [a - b] if paired else [a, -b]
    expected, degrees = 0.0, 0.0
    reviews = np.var(a.mean(0) - b.mean(0), ddof=1) / 1500
    for x in parts:
        s, n = x.shape
        ss_total = ((x - x.mean()) ** 2).sum()
        ss_seeds = n * ((x.mean(1) - x.mean()) ** 2).sum()
        ss_reviews = s * ((x.mean(0) - x.mean()) ** 2).sum()
        reviews -= (ss_total - ss_seeds - ss_reviews) / ((s - 1) * (n - 1)) / (s * n)
        seeds = ss_seeds / (s - 1) / (s * n)  # mean square, of a mean over S x n
        expected += seeds
        degrees += seeds**2 / (s - 1)
    t = stats.t(expected**2 / degrees)
    errors = statistics._errors([parts])
    sums = reviews**0.5 * rng.normal(size=400_000) + expected**0.5 * t.rvs(
        400_000, random_state=rng
    )
    for x in np.quantile(sums, [0.05, 0.5, 0.95]):
        assert errors.at_most(x) == pytest.approx((sums <= x).mean(), abs=0.02)
        assert errors.at_most(x) + errors.at_least(x) == pytest.approx(1)
        each = stats.t.cdf((x - errors.reviews) / errors.scale, errors.freedom)
        assert errors.at_most(x) == pytest.approx(each.mean(), rel=1e-9)  # equal ones, each alone
    assert errors.half_width() == pytest.approx(np.quantile(abs(sums), 0.95), rel=0.03)


@pytest.mark.parametrize("seeds", [(3, 3), (4, 6), (3, 1)])
def test_an_interval_excludes_zero_where_p_is_below_a_twentieth(seeds):
    """Of a single difference; both are made of the same errors."""
    rng, near = np.random.default_rng(6), []
    for truth in np.linspace(0.80, 0.86, 40):
        row = statistics.compare(experiment(rng, 800, (0.8, truth), seeds, (0.01, 0.01))).iloc[0]
        assert (row["low"] > 0 or row["high"] < 0) == (row["p"] < 0.05)
        near.append(abs(row["p"] - 0.05))
    assert min(near) < 0.02  # some are at the edge


def test_seeds_are_paired_by_their_number_and_a_method_with_one_run_is_that_model():
    rng = np.random.default_rng(4)
    a, b = experiment(rng, 400, (0.8, 0.8), (3, 3), (0.02, 0.02)).values()
    right = {"a": a, "b": b[[2, 0]], "c": b[:1], "d": b}
    seeds = {"a": [0, 1, 2], "b": [2, 0], "c": [7], "d": [3, 4, 5]}
    table = statistics.compare(right, [("a", "b"), ("a", "c"), ("a", "d")], seeds)
    assert table["test"].tolist() == [
        "bootstrap over reviews, t over 2 seeds, paired by seed",
        "bootstrap over reviews, t over 3 seeds, against one run",
        "bootstrap over reviews, Welch's t over seeds",  # none in common
    ]
    common = a[[0, 2]].mean() - b[[0, 2]].mean()
    expected = [common, a.mean() - b[0].mean(), a.mean() - b.mean()]
    assert table["difference"].tolist() == pytest.approx(expected, abs=1e-12)


def test_what_moves_both_methods_of_a_seed_alike_is_no_error_of_their_difference():
    """Seeds that draw other labels move both by three points."""
    rng = np.random.default_rng(5)
    base = rng.random((1, 2000)) < 0.8 + np.array([[-0.03], [0.0], [0.03]])
    right = {"a": base, "b": base & (rng.random((3, 2000)) < 0.98)}
    table = statistics.compare(right)
    other = statistics.compare(right, seeds={"a": [0, 1, 2], "b": [3, 4, 5]})
    assert table["high"][0] - table["low"][0] < (other["high"][0] - other["low"][0]) / 3


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (4, 6)])
def test_copies_of_a_review_in_a_group_are_worth_one(seeds):
    rng = np.random.default_rng(7)
    right = experiment(rng, 300, (0.8, 0.84), seeds, (0.01, 0.01))
    alone = statistics.compare(right, groups=np.arange(300)).iloc[0]
    copies = {name: rows.repeat(5, axis=1) for name, rows in right.items()}
    groups = np.arange(300).repeat(5)
    mixed = rng.permutation(1500)
    copies = {name: rows[:, mixed] for name, rows in copies.items()}
    grouped = statistics.compare(copies, groups=groups[mixed]).iloc[0]
    assert "over groups" in grouped["test"]
    for column in ("difference", "low", "high", "p"):
        assert grouped[column] == pytest.approx(alone[column], abs=0.01)
    if max(seeds) > 1:
        as_reviews = statistics.compare(right).iloc[0]
        assert alone.drop("test").equals(as_reviews.drop("test"))  # of one review each
    else:
        free = statistics.compare(copies).iloc[0]
        assert free["high"] - free["low"] < 0.5 * (grouped["high"] - grouped["low"])


@pytest.mark.parametrize(("seeds", "sd"), [((1, 1), 0.0), ((3, 3), 0.005)])
def test_intervals_hold_the_truth_with_groups_of_different_sizes(few_resamples, seeds, sd):
    rng, hold, free = np.random.default_rng(8), [], []
    for _ in range(SIMULATIONS):
        right = experiment(rng, 120, (0.8, 0.8), seeds, (sd, sd))
        groups = np.arange(120).repeat(rng.integers(1, 12, 120))
        right = {name: rows[:, groups] for name, rows in right.items()}
        for found, of in ((hold, groups), (free, None)):
            row = statistics.compare(right, groups=of).iloc[0]
            found.append(row["low"] <= 0 <= row["high"])
    assert np.mean(hold) >= 0.95 - error(0.05, SIMULATIONS)
    assert np.mean(free) < (0.7 if seeds == (1, 1) else 0.95)  # as if all were independent


def test_errors_of_groups_have_the_variance_of_a_ratio():
    """Of sums to numbers of reviews (Cochran 1977, chapter 6): a large group has a large sum."""
    rng = np.random.default_rng(9)
    groups = np.arange(200).repeat(rng.integers(1, 30, 200))
    difference = (rng.random(200) < 0.6)[groups] * 1  # of most groups, in every review
    sums = np.append(np.bincount(groups, difference), [1, -1])  # and the two that are added
    sizes = np.append(np.bincount(groups), [1, 1])
    rest = sums - sizes * sums.sum() / sizes.sum()
    found = statistics._errors([[difference[None]]], [groups]).reviews.std()
    assert found == pytest.approx((rest**2).sum() ** 0.5 / sizes.sum(), rel=0.05)


def test_a_planned_difference_keeps_its_direction():
    right = pair(only_a=4, only_b=14, both=60, neither=22)
    assert statistics.compare(right, [("lora", "head")])["difference"][0] == pytest.approx(-0.1)
    assert statistics.compare(right)[["method_a", "method_b"]].iloc[0].tolist() == ["head", "lora"]


@pytest.mark.parametrize(
    ("only_a", "only_b", "verdict"),
    [(40, 40, "equivalent"), (420, 300, "different"), (560, 500, "undecided")],
)
def test_a_small_difference_is_equivalent_where_two_one_sided_tests_say_so(only_a, only_b, verdict):
    right = pair(only_a, only_b, 8000 - only_a - only_b, 2000)
    row = statistics.compare(right, margin=0.01).iloc[0]
    assert row["verdict"] == verdict
    sd = ((only_a + only_b) / 1e4 - ((only_a - only_b) / 1e4) ** 2) ** 0.5 / 100
    expected = stats.norm.sf((0.01 - row["difference"]) / sd)
    assert row["p_equivalent"] == pytest.approx(expected, abs=0.03)
    assert statistics.compare(right, margin=0.05).iloc[0]["p_equivalent"] < 0.001


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy_in_each_bin():
    """Ten reviews of confidence 0.9, seven right; ten of 0.6, all right: (2 + 4) / 20."""
    labels = np.array([0] * 7 + [1] * 3 + [0] * 10)
    first = np.repeat([0.9, 0.6], 10)
    shares = np.stack([first, 1 - first], axis=1)
    assert statistics.calibration_error(labels, shares) == pytest.approx(0.3)
    assert statistics.calibration_error(labels[:7], shares[:7].round()) == 0


def test_holm_multiplies_the_smallest_p_by_the_number_of_pairs_and_so_on():
    rng = np.random.default_rng(3)
    right = experiment(rng, 800, (0.8, 0.83, 0.86), (1, 1, 1), (0, 0, 0))
    table = statistics.compare(right).sort_values("p")
    p = table["p"].tolist()
    assert p[0] < p[1] < p[2] < 0.5
    expected = [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    assert table["p_holm"].tolist() == pytest.approx(expected)


def test_equivalence_is_corrected_over_the_same_pairs_as_difference():
    table = pd.DataFrame({"p": [0.9, 0.9, 0.001], "p_equivalent": [0.02, 0.03, 0.9]})
    assert statistics.with_verdicts(table[:1])["verdict"].tolist() == ["equivalent"]
    both = statistics.with_verdicts(table)["verdict"].tolist()
    assert both == ["undecided", "undecided", "different"]


def test_other_methods_and_their_order_change_no_difference_and_no_interval():
    right = experiment(np.random.default_rng(2), 300, (0.7, 0.8, 0.9), (3, 2, 1), (0.01,) * 3)
    columns = ["difference", "low", "high", "p", "p_equivalent"]
    every = statistics.compare(dict(reversed(right.items()))).set_index(["method_a", "method_b"])
    alone = statistics.compare({m: right[m] for m in "01"}).set_index(["method_a", "method_b"])
    assert every.loc[("1", "0"), columns].tolist() == alone.loc[("1", "0"), columns].tolist()
    assert (every["difference"] > 0).all()


def test_one_method_has_no_pair():
    assert len(statistics.compare({"head": np.ones((1, 4), bool)})) == 0


# ------------------------------------------------------------------ simulations


@pytest.mark.parametrize(
    ("setting", "most"),
    [
        (Setting(500, (1, 1), (0.0,)), 0.95),
        (Setting(500, (3, 3), (0.005,)), 0.97),
        (Setting(2500, (3, 3), (0.015,)), 0.97),
        (Setting(1000, (3, 1), (0.01,)), 0.98),  # t with 2 degrees of freedom and more: too wide
        (Setting(500, (3, 3), (0.015,) * 4), 0.97),
        (Setting(500, (3, 3), (0.003, 0.005, 0.01, 0.03)), 0.98),
    ],
)
def test_intervals_of_differences_hold_the_truth(few_resamples, setting, most):
    rng = np.random.default_rng(setting.reviews)
    got = measure(rng, setting._replace(accuracies=(0.82, 0.80)), SIMULATIONS)
    assert got["coverage"] >= 0.95 - error(0.05, SIMULATIONS)
    assert got["coverage"] <= most + error(1 - most, SIMULATIONS)


def test_no_difference_is_claimed_among_four_equal_methods_too_often(few_resamples):
    rng = np.random.default_rng(5)
    for seeds, sd in (((1,) * 4, 0.0), ((3,) * 4, 0.005)):
        got = measure(rng, Setting(500, seeds, (sd,)), 200)
        assert got["claims"] <= 0.05 + error(0.05, 200)
        assert got["experiments_with_a_claim"] <= 0.05 + error(0.05, 200)
        assert got["claims"] > 0.005  # nor is nothing ever claimed
