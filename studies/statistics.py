"""Do the comparisons hold their claims? Experiments made up with a known truth.

`python -m studies.statistics` writes docs/results/statistics.csv, in some minutes of one core.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from evaluation import statistics

FILE = Path("docs/results/statistics.csv")
SEEDS = ((1, 1), (2, 2), (3, 3), (5, 5), (10, 10), (3, 1), (3, 3, 3, 3))  # of each method
TEXTS = (500, 2500)
SEED_SDS = (0.005, 0.015)  # of a method's accuracy: half a point, and one and a half
UNEVEN = (0.003, 0.005, 0.01, 0.03)  # of four tasks: on the last, training samples matter
SIMULATIONS = 500
SHARED, OWN = 0.85, 0.05  # shares of variance: a text's difficulty for all methods, for one method
COLLAPSE = 1 / 7  # share of the first method's runs that give one label: half of the texts right
LABELS = 0.5  # share of a seed's variance from its training sample, the same for all methods


def experiment(rng, n, accuracies, seeds, seed_sds) -> dict[str, np.ndarray]:
    """Which of `n` texts each seed gets right, (S, n) a method, for methods named 0, 1, ...

    A text is right where z(accuracy) + N(0, 1) > 0. The noise N(0, 1) is the sum of the text's
    difficulty for all methods and for this method, the seed's effect on all methods and on this
    method, and the seed's effect on this text. Over texts and seeds the accuracies are exactly as
    given, whatever the shares. At 80 %, two methods disagree on 12 % of the texts, and two seeds of
    one method on 10 %.
    """
    difficulty, labels = rng.normal(0, SHARED**0.5, n), rng.normal(0, 1, (max(seeds), 1))
    right = {}
    for name, (accuracy, count, sd) in enumerate(zip(accuracies, seeds, seed_sds, strict=True)):
        level = norm.ppf(accuracy)
        seed_sd = sd / norm.pdf(level)  # accuracy = cdf of the level
        noise = rng.normal(0, (1 - SHARED - OWN - seed_sd**2) ** 0.5, (count, n))
        noise += seed_sd * LABELS**0.5 * labels[:count] + rng.normal(0, OWN**0.5, n)
        noise += rng.normal(0, seed_sd * (1 - LABELS) ** 0.5, (count, 1))
        right[str(name)] = level + difficulty + noise > 0
    return right


class Setting(NamedTuple):
    """The experiments to make up; equal accuracies of 80 % where none are given."""

    texts: int
    seeds: tuple[int, ...]  # of each method
    seed_sds: tuple[float, ...]  # of each task, whose mean is compared
    accuracies: tuple[float, ...] | None = None
    collapse: float = 0.0  # the share of the first method's runs that get half of the texts right


def measure(rng: np.random.Generator, setting: Setting, simulations: int = SIMULATIONS) -> dict:
    """How often the intervals hold the truth, and how often a difference is claimed.

    A method with one seed is judged as one trained model: its seed adds no error.
    """
    n, seeds, seed_sds, accuracies, collapse = setting
    accuracies = accuracies or (0.8,) * len(seeds)
    means = (1 - collapse) * accuracies[0] + collapse * 0.5, *accuracies[1:]
    numbers = {str(name): list(range(count)) for name, count in enumerate(seeds)}
    sds = [[sd if count > 1 else 0.0 for count in seeds] for sd in seed_sds]
    tables = []
    for _ in tqdm(range(simulations), desc=f"{seeds} {n} {seed_sds}", disable=None):
        made = [experiment(rng, n, accuracies, seeds, of_task) for of_task in sds]
        for right in made if collapse else ():
            collapsed = rng.random(seeds[0]) < collapse
            right["0"][collapsed] = rng.random(n) < 0.5  # one label for all
        tasks = [statistics.Scores(right, numbers) for right in made]
        pairs = statistics.all_pairs(tasks[0])
        truth = [means[int(a)] - means[int(b)] for a, b in pairs]
        tables.append(statistics.compare(tasks, pairs).assign(truth=truth))
    table = pd.concat(tables)
    return {
        "coverage": table["truth"].between(table["low"], table["high"]).mean(),
        "claims": (table["p"] < 0.05).mean(),
        "experiments_with_a_claim": np.mean([(t["p_holm"] < 0.05).any() for t in tables]),
        "half_width_points": 50 * (table["high"] - table["low"]).mean(),
        "equivalent": (table["p_equivalent"] < 0.05).mean(),
    }


def both(n: int, seeds: tuple[int, ...], *sds: float, collapse: float = 0.0) -> dict:
    """A row of the table: equal methods, and two that are a margin apart."""
    setting = {"tasks": len(sds), "seeds": " ".join(map(str, seeds)), "texts": n}
    points = " ".join(f"{100 * sd:g}" for sd in dict.fromkeys(sds))
    setting |= {"seed_sd_points": points, "collapse": collapse, "simulations": SIMULATIONS}
    equal = measure(np.random.default_rng(0), Setting(n, seeds, sds, collapse=collapse))
    apart = (0.8 + statistics.MARGIN, 0.8)
    margin = measure(np.random.default_rng(1), Setting(n, seeds[:2], sds, apart))
    return setting | equal | {"equivalent_at_the_margin": margin["equivalent"]}


if __name__ == "__main__":
    sds = {seeds: SEED_SDS if max(seeds) > 1 else (0.0,) for seeds in SEEDS}
    rows = [both(n, seeds, sd) for seeds in SEEDS for n in TEXTS for sd in sds[seeds]]
    of_four = [[sd] * 4 for sd in SEED_SDS] + [UNEVEN]
    rows += [both(TEXTS[-1], seeds, *sds) for seeds in SEEDS[2:4] for sds in of_four]
    rows += [both(2500, (s, s), *[0.005] * t, collapse=COLLAPSE) for t in (1, 4) for s in (5, 10)]
    pd.DataFrame(rows).to_csv(FILE, index=False, float_format="%.4g")
