"""Intervals and tests against closed forms, and against simulations with a known truth.

Simulations make up texts whose difficulty all methods share, and seeds that move a method's
accuracy; both are drawn anew each time. Bands are four standard errors of the simulation wide.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from evaluation import statistics
from evaluation.statistics import Scores
from evaluation.stored import Predictions
from studies.statistics import Setting, experiment, measure

SIMULATIONS = 400


def error(rate, trials):
    return 4 * (rate * (1 - rate) / trials) ** 0.5


def scores(right, seeds=None, groups=None, is_folds=False):
    """The values of methods: bool arrays (S, n), with seeds 0, 1, ... where none are given."""
    seeds = seeds or {method: list(range(len(rows))) for method, rows in right.items()}
    return Scores({m: rows.astype(float) for m, rows in right.items()}, seeds, groups, is_folds)


def compare(right, pairs=None, seeds=None, margin=0.01, groups=None):
    return statistics.compare([scores(right, seeds, groups)], pairs, margin)


def pair(only_a, only_b, both, neither):
    """Two methods with one seed each, right on so many texts."""
    a = [1] * only_a + [0] * only_b + [1] * both + [0] * neither
    b = [0] * only_a + [1] * only_b + [1] * both + [0] * neither
    return {"lora": np.array([a], bool), "head": np.array([b], bool)}


def test_one_run_has_the_interval_of_a_share_with_a_right_and_a_wrong_text_added():
    right = {"a": np.arange(100)[None] < 83, "b": np.ones((1, 100), bool)}
    table = statistics.by_method(scores(right)).set_index("method")
    share = 84 / 102
    half = stats.t.ppf(0.975, 99) * (share * (1 - share) / 101) ** 0.5
    assert table.loc["a", "mean"] == 0.83 and np.isnan(table.loc["a", "sd"])
    assert table.loc["a", ["low", "high"]].tolist() == pytest.approx([share - half, share + half])
    assert table.loc["b", "high"] == 1.0 and 0.9 < table.loc["b", "low"] < 0.99  # all right


def test_the_interval_of_one_run_holds_the_truth_as_often_as_it_claims():
    rng, n = np.random.default_rng(0), 100
    right = {str(count): np.arange(n)[None] < count for count in range(n // 2, n + 1)}
    table = statistics.by_method(scores(right))
    truth = rng.uniform(0.7, 0.97, 20_000)  # for a single truth it swings: counts are whole
    row = table.iloc[rng.binomial(n, truth) - n // 2]
    held = (row["low"] <= truth) & (truth <= row["high"])
    assert held.mean() == pytest.approx(0.955, abs=0.006)


def test_the_interval_of_several_seeds_covers_other_seeds_and_other_texts():
    rng, held = np.random.default_rng(1), []
    for _ in range(SIMULATIONS):
        right = experiment(rng, 400, (0.8,), (3,), (0.02,))
        row = statistics.by_method(scores(right)).iloc[0]
        held.append(row["low"] <= 0.8 <= row["high"])
    assert 0.95 - error(0.05, SIMULATIONS) <= np.mean(held) <= 0.99 + error(0.01, SIMULATIONS)


def test_all_intervals_of_a_table_cover_the_same():
    """One run cannot say how seeds vary: no interval, unless no seed changes the method."""
    rng = np.random.default_rng(2)
    right = experiment(rng, 300, (0.8, 0.8), (3, 1), (0.02, 0.02))
    lows = [statistics.by_method(scores(right), fixed)["low"] for fixed in ((), ("1",))]
    assert np.isnan(lows[0][1]) and not np.isnan(lows[1]).any()
    assert not statistics.by_method(scores({"a": right["1"]}))["low"].isna().any()


def test_the_interval_of_one_seed_each_is_bonett_and_prices():
    row = compare(pair(only_a=70, only_b=30, both=700, neither=200)).iloc[0]
    a, b = 71 / 1002, 31 / 1002
    half = stats.t.ppf(0.975, 999) * ((a + b - (a - b) ** 2) / 1001) ** 0.5
    assert (row["low"], row["high"]) == pytest.approx((a - b - half, a - b + half))
    assert row["difference"] == pytest.approx(0.04)
    exact = stats.binomtest(70, 100).pvalue  # McNemar's
    assert row["p"] == pytest.approx(exact, rel=0.25)
    other = compare(pair(70, 30, 700, 200), [("head", "lora")]).iloc[0]
    assert other["difference"] == pytest.approx(-0.04)  # a planned one keeps its direction
    alike = compare(pair(0, 0, 80, 20)).iloc[0]
    assert alike["low"] < -0.01 and alike["high"] > 0.01  # agreeing on every text is no certainty


def test_errors_have_the_variance_of_the_crossed_analysis_of_variance():
    """Texts, seeds and their interaction, each once: by the textbook's sums."""
    rng = np.random.default_rng(3)
    right = experiment(rng, 1500, (0.8, 0.8), (4, 4), (0.01, 0.02))
    x = right["0"].astype(int) - right["1"].astype(int)
    s, n = x.shape
    ss_total = ((x - x.mean()) ** 2).sum()
    ss_seeds = n * ((x.mean(1) - x.mean()) ** 2).sum()
    ss_texts = s * ((x.mean(0) - x.mean()) ** 2).sum()
    interaction = (ss_total - ss_seeds - ss_texts) / ((s - 1) * (n - 1)) / (s * n)
    of_texts = np.var(x.mean(0), ddof=1) / n - interaction
    of_seeds = ss_seeds / (s - 1) / (s * n)  # mean square, of a mean over S x n
    sums = of_texts**0.5 * rng.normal(size=400_000)
    sums += of_seeds**0.5 * stats.t(s - 1).rvs(400_000, random_state=rng)
    row = compare(right, [("0", "1")]).iloc[0]
    assert (row["high"] - row["low"]) / 2 == pytest.approx(np.quantile(abs(sums), 0.95), rel=0.02)
    assert row["p"] == pytest.approx((abs(sums) >= abs(row["difference"])).mean(), abs=0.01)

    def density(z):
        return stats.t.pdf(z, 4999) * stats.t.sf((0.04 - 0.01 * z) / 3e-4, 2)

    exact, _ = integrate.quad(density, -12, 12, points=[4], epsabs=0)  # far from zero, too
    assert statistics._Errors(1e-4, 4999, 9e-8, 2).beyond(0.04) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (4, 6), (3, 1)])
def test_an_interval_excludes_zero_where_p_is_below_a_twentieth(seeds):
    """Of a single difference; both are made of the same errors."""
    rng, near = np.random.default_rng(6), []
    for truth in np.linspace(0.80, 0.86, 40):
        row = compare(experiment(rng, 800, (0.8, truth), seeds, (0.01, 0.01))).iloc[0]
        assert (row["low"] > 0 or row["high"] < 0) == (row["p"] < 0.05)
        near.append(abs(row["p"] - 0.05))
    assert min(near) < 0.02  # some are at the edge


def test_seeds_are_paired_by_their_number_and_a_method_with_one_run_is_that_model():
    rng = np.random.default_rng(4)
    a, b = experiment(rng, 400, (0.8, 0.8), (3, 3), (0.02, 0.02)).values()
    right = {"a": a, "b": b[[2, 0]], "c": b[:1], "d": b}
    seeds = {"a": [0, 1, 2], "b": [2, 0], "c": [7], "d": [3, 4, 5]}
    table = compare(right, [("a", "b"), ("a", "c"), ("a", "d")], seeds)
    assert table["test"].tolist() == [
        "paired by text; of other texts and 2 seeds, paired by seed",
        "paired by text; of other texts and 3 seeds, against one run",
    ]  # "a" and "d" have no seed in common, and are left out
    common = a[[0, 2]].mean() - b[[0, 2]].mean()
    expected = [common, a.mean() - b[0].mean()]
    assert table["difference"].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (4, 6)])
def test_copies_of_a_text_in_a_group_are_worth_one(seeds):
    rng = np.random.default_rng(7)
    right = experiment(rng, 300, (0.8, 0.84), seeds, (0.01, 0.01))
    alone = compare(right).iloc[0]
    groups, mixed = np.arange(300).repeat(5), rng.permutation(1500)
    copies = {name: rows.repeat(5, axis=1)[:, mixed] for name, rows in right.items()}
    grouped = compare(copies, groups=groups[mixed]).iloc[0]
    assert "groups of texts" in grouped["test"]
    for column in ("difference", "low", "high", "p"):
        assert grouped[column] == pytest.approx(alone[column], abs=0.01)
    if max(seeds) == 1:
        free = compare(copies).iloc[0]
        assert free["high"] - free["low"] < 0.5 * (grouped["high"] - grouped["low"])


def test_ten_groups_of_copies_say_no_more_than_ten_texts():
    same = {method: np.arange(10)[None] < 9 for method in ("lora", "head")}
    copies = {method: rows.repeat(100, axis=1) for method, rows in same.items()}
    alone = compare(same).iloc[0]
    grouped = compare(copies, groups=np.arange(10).repeat(100)).iloc[0]
    assert grouped["verdict"] == "not significant"
    for column in ("low", "high", "p_equivalent"):
        assert grouped[column] == pytest.approx(alone[column])
    of_one = [statistics.by_method(scores(same)).iloc[0]]
    of_one += [statistics.by_method(scores(copies, groups=np.arange(10).repeat(100))).iloc[0]]
    assert of_one[0]["low"] == pytest.approx(of_one[1]["low"])


def test_errors_of_groups_are_those_of_leaving_each_of_them_out():
    """The jackknife; the two added texts weigh as many texts as say what one says (Kish 1965)."""
    rng = np.random.default_rng(9)
    groups = np.arange(200).repeat(sizes := rng.integers(1, 30, 200))
    a = (rng.random(200) < 0.6)[groups]  # in most groups, in every text
    row = compare({"a": a[None], "b": np.zeros_like(a)[None]}, [("a", "b")], groups=groups).iloc[0]
    errors = a - a.mean()
    alike = sum(errors[groups == group].sum() ** 2 for group in range(200)) * 200 / 199
    weight = min(alike / (errors**2).sum(), (sizes**2).sum() / sizes.sum())
    assert weight > 10
    values, places = np.append(a, [1, -1]), np.append(groups, [200, 201])
    weights = np.append(np.ones(len(a)), [weight, weight])
    kept = [places != group for group in range(202)]
    means = [np.average(values[k], weights=weights[k]) for k in kept]
    middle = np.average(values, weights=weights)
    variance = ((np.array(means) - middle) ** 2).sum() * 201 / 202
    half = stats.t.ppf(0.975, sizes.sum() ** 2 / (sizes**2).sum() - 1) * variance**0.5
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half)


def test_one_group_says_nothing_of_others():
    right, one = np.arange(500)[None] < 400, np.zeros(500, int)
    row = statistics.by_method(scores({"a": right}, groups=one)).iloc[0]
    assert (row["low"], row["high"]) == (0, 1)


def test_with_folds_a_text_that_one_method_has_not_been_tested_on_is_left_out():
    right = pair(only_a=30, only_b=10, both=50, neither=10)
    partly = np.where(np.arange(100) < 60, right["head"], np.nan)
    folds = Scores({"lora": right["lora"] * 1.0, "head": partly}, {}, None, True)
    seeds = {"lora": [0, 1], "head": [0]}
    row = statistics.compare([folds._replace(seeds=seeds)], [("lora", "head")]).iloc[0]
    expected = right["lora"][0, :60].mean() - right["head"][0, :60].mean()
    assert row["difference"] == pytest.approx(expected) and "each tested once" in row["test"]
    alone = compare({m: values[:, :60] for m, values in right.items()}).iloc[0]
    widths = [each["high"] - each["low"] for each in (row, alone)]
    assert widths[0] == pytest.approx(statistics.FOLDS_FACTOR * widths[1])
    never = folds._replace(values=folds.values | {"head": partly * np.nan}, seeds=seeds)
    assert statistics.compare([never], [("lora", "head")]).empty


def test_with_folds_the_theorems_intervals_hold_the_error_of_stable_models(monkeypatch):
    """Nearest centroids of two normal classes: each fold's model has an error in closed form."""
    monkeypatch.setattr(statistics, "FOLDS_FACTOR", 1.0)
    rng, held = np.random.default_rng(10), []
    mean = np.array([0.6, 0.6, 0.0, 0.0])
    for _ in range(SIMULATIONS):
        y, fold = rng.integers(0, 2, 200), np.arange(200) % 5
        x = rng.normal(size=(200, 4)) + np.where(y == 1, 1, -1)[:, None] * mean
        right, truth = np.zeros((2, 200)), []
        for method, read in enumerate(([0, 2], [1, 2, 3])):
            for k in range(5):
                train, own = fold != k, x[:, read]
                means = [own[train & (y == label)].mean(axis=0) for label in (0, 1)]
                w, middle = means[1] - means[0], (means[0] + means[1]) / 2
                right[method, fold == k] = ((own - middle) @ w > 0)[fold == k] == y[fold == k]
                far = np.array([(mean[read] - middle) @ w, (mean[read] + middle) @ w])
                hits = stats.norm.cdf(far / (w @ w) ** 0.5).mean()
                truth.append((hits, -hits)[method] / 5)
        folds = scores({"a": right[:1], "b": right[1:]}, is_folds=True)
        row = statistics.compare([folds], [("a", "b")]).iloc[0]
        held.append(row["low"] <= sum(truth) <= row["high"])
    assert np.mean(held) == pytest.approx(0.95, abs=error(0.05, SIMULATIONS))


VERDICTS = [(40, 40, "equivalent"), (420, 300, "significant"), (560, 500, "not significant")]


@pytest.mark.parametrize(("only_a", "only_b", "verdict"), VERDICTS)
def test_a_small_difference_is_equivalent_where_two_one_sided_tests_say_so(only_a, only_b, verdict):
    right = pair(only_a, only_b, 8000 - only_a - only_b, 2000)
    row = compare(right, margin=0.01).iloc[0]
    assert row["verdict"] == verdict
    sd = ((only_a + only_b) / 1e4 - ((only_a - only_b) / 1e4) ** 2) ** 0.5 / 100
    expected = stats.norm.sf((0.01 - row["difference"]) / sd)
    assert row["p_equivalent"] == pytest.approx(expected, abs=0.01)
    assert compare(right, margin=0.05).iloc[0]["p_equivalent"] < 0.001


def test_holm_multiplies_the_smallest_p_by_the_number_of_pairs_and_so_on():
    """Of difference and of equivalence, each over all pairs."""
    table = pd.DataFrame({"p": [0.02, 0.9, 0.9, 0.015], "p_equivalent": [0.9, 0.02, 0.03, 0.9]})
    corrected = statistics.with_verdicts(table)
    assert corrected["p_holm"].tolist() == pytest.approx([0.06, 1, 1, 0.06])
    assert set(corrected["verdict"]) == {"not significant"}
    few = statistics.with_verdicts(table[:2])
    assert few["verdict"].tolist() == ["significant", "equivalent"]
    both = statistics.with_verdicts(pd.DataFrame({"p": [0.001], "p_equivalent": [0.001]}))
    assert both["verdict"].tolist() == ["significant"]  # a sure difference, if small


@pytest.mark.parametrize(
    ("setting", "most"),
    [
        (Setting(500, (1, 1), (0.0,)), 0.95),
        (Setting(500, (3, 3), (0.005,)), 0.97),
        (Setting(1000, (3, 1), (0.01,)), 0.98),  # t with 2 degrees of freedom and more: too wide
        (Setting(500, (3, 3), (0.003, 0.005, 0.01, 0.03)), 0.98),
    ],
)
def test_intervals_of_differences_hold_the_truth(setting, most):
    rng = np.random.default_rng(setting.texts)
    got = measure(rng, setting._replace(accuracies=(0.82, 0.80)), SIMULATIONS)
    assert got["coverage"] >= 0.95 - error(0.05, SIMULATIONS)
    assert got["coverage"] <= most + error(1 - most, SIMULATIONS)


def test_intervals_of_uneven_groups_hold_the_truth():
    rng, held = np.random.default_rng(3), []
    for _ in range(SIMULATIONS):
        groups = np.arange(30).repeat(np.ceil(10 * rng.lognormal(0, 1.5, 30)).astype(int))
        right = rng.random(len(groups)) < rng.beta(7.2, 1.8, 30)[groups]  # 0.8 in the mean
        row = statistics.by_method(scores({"a": right[None]}, groups=groups)).iloc[0]
        held.append(row["low"] <= 0.8 <= row["high"])
    assert np.mean(held) >= 0.95 - error(0.05, SIMULATIONS)


@pytest.mark.parametrize("texts", [(97, 3), (99, 99, 2)])
def test_intervals_of_macro_f1_hold_the_truth_where_a_label_has_few_texts(texts):
    """Of the others 2 % are wrong, of the rare label 90 % (lora) or 70 % (probe)."""
    rng, labels, held = np.random.default_rng(4), np.arange(len(texts)).repeat(texts), []
    often = [0.98] * (len(texts) - 1)
    recall, truth = {"lora": np.append(often, 0.1), "probe": np.append(often, 0.3)}, {}
    for method, rates in recall.items():  # the F1 of the expected counts
        right, wrong = texts * rates, texts * (1 - rates)
        called = right + np.roll(wrong, 1)
        truth[method] = (2 * right / (texts + called)).mean()
    for _ in range(SIMULATIONS):
        logits = {}
        for method, rates in recall.items():
            wrong = rng.random(len(labels)) > rates[labels]  # is called the next label
            logits[method] = {0: np.eye(len(texts))[(labels + wrong) % len(texts)]}
        both = Predictions(labels, logits, np.arange(len(labels))).scores("macro_f1")
        own = statistics.by_method(both).set_index("method").loc["lora"]
        row = statistics.compare([both], [("probe", "lora")]).iloc[0]
        pairs = (own, truth["lora"]), (row, truth["probe"] - truth["lora"])
        held.append([each["low"] <= value <= each["high"] for each, value in pairs])
    assert (np.mean(held, axis=0) >= 0.95 - error(0.05, SIMULATIONS)).all(), np.mean(held, axis=0)


def test_no_difference_is_claimed_among_four_equal_methods_too_often():
    rng = np.random.default_rng(5)
    for seeds, sd in (((1,) * 4, 0.0), ((3,) * 4, 0.005)):
        got = measure(rng, Setting(500, seeds, (sd,)), 200)
        assert got["claims"] <= 0.05 + error(0.05, 200)
        assert got["experiments_with_a_claim"] <= 0.05 + error(0.05, 200)
        assert got["claims"] > 0.005  # nor is nothing ever claimed


@pytest.mark.parametrize(("wrong", "line"), [(np.nan, "every text for each"), (900.0, "0 to 1")])
def test_values_that_are_not_of_a_share_are_refused(wrong, line):
    values = {"a": np.full((3, 500), 0.9), "b": np.full((3, 500), 0.8)}
    values["a"][1, 7] = wrong  # in one text of the second seed
    with pytest.raises(ValueError, match=line):
        statistics.compare([Scores(values, {"a": [0, 1, 2], "b": [0, 1, 2]})])


def test_a_difference_over_the_texts_that_both_have_tested_may_be_no_share():
    """Of macro-F1 over all texts, averaged over the first fold."""
    values = {"a": np.array([[9.0] * 10 + [-0.5] * 90]), "b": np.full((1, 100), np.nan)}
    values["b"][0, :10] = 0.5
    seeds = {"a": list(range(10)), "b": [0]}
    row = statistics.compare([Scores(values, seeds, is_folds=True)]).iloc[0]
    assert abs(row["difference"]) == 8.5 and row["low"] <= row["high"]
