"""Equal tuning: the same number of learning rates for every method, chosen on validation alone.

Every variant `lora(learning_rate=...)` is a run like any other, with the first seed, that leaves
the test unread. The rate with the lowest validation loss is chosen. POOLING is chosen by a probe of
each reading, `probe(pooling=...)`, cross-validated within training and validation.
"""

import numpy as np
import pandas as pd

from boundary import write
from evaluation.curves import tuning_figure, without
from modeling import PROBE, Method
from modeling.pooling import POOLINGS
from records import RunRecord, record_files

from .settings import Settings

MEASURED = ("validation_loss", "validation_accuracy", "best_epoch")


def grid(settings: Settings) -> list[Method]:
    """Each method with `TUNING_RATES` learning rates, over two decades around its own.

    Of the probe its readings.
    """
    count, runs = settings.tuning_rates, []
    steps = np.linspace(-1, 1, count) if count > 1 else [0.0]
    for method in settings.methods:
        if method.name == PROBE:
            runs += [method.variant(pooling=pooling) for pooling in POOLINGS]
        elif not method.is_baseline:
            rates = [float(f"{method.learning_rate * 10**step:.3g}") for step in steps]
            runs += [method.variant(learning_rate=rate) for rate in rates]
    return list({run.text: run for run in runs}.values())


def collect(experiment) -> pd.DataFrame:
    """A row for each rate or reading tried in this folder, and whether it is its method's best.

    `at_edge`: it is the lowest or the highest rate tried, so a better one may lie beyond.
    """
    rows = []
    for path in record_files(experiment.folder):  # of earlier starts too
        record = RunRecord.read(path)
        if record.seed == experiment.settings.seeds[0]:
            row = {"experiment": experiment.settings.experiment}
            method = without("pooling", without("learning_rate", record.method))
            reading = record.hyperparameters.get("pooling", experiment.settings.pooling)
            row |= {"method": method, "pooling": reading, "seed": record.seed}
            row |= record.model_dump(include={"learning_rate", "status", *MEASURED})
            rows.append(row | {"seconds": record.training_seconds})
    table = pd.DataFrame(rows)
    if len(table):
        table = table.sort_values(["method", "learning_rate"], ignore_index=True)
        by_method = table.groupby("method", sort=False)
        best = table.dropna(subset="validation_loss").groupby("method")["validation_loss"].idxmin()
        table["chosen"] = table.index.isin(best)
        rates = by_method["learning_rate"]
        ends = rates.transform("min"), rates.transform("max")
        table["at_edge"] = (table["learning_rate"] == ends[0]) | (table["learning_rate"] == ends[1])
    return table


def summarise(experiment) -> None:
    """Write tuning.csv and its figure, and print what was chosen as constants to copy."""
    table = collect(experiment)
    if table.empty:
        return
    file = write(experiment.folder / "tuning.csv", table.to_csv(index=False))
    shown = table.drop(columns=["experiment", "seed", "status"]).fillna(np.nan)
    print(shown.to_string(index=False, na_rep="—"))
    of_probe = table["learning_rate"].isna()
    chosen = table[table["chosen"] & ~of_probe]
    for row in chosen[chosen["at_edge"]].itertuples():
        print(
            f"warning: {row.method} is best at the edge of what was tried, {row.learning_rate:g}: "
            "move its LEARNING_RATES there and tune again"
        )
    best = list(zip(chosen["method"], chosen["learning_rate"], strict=True))
    plain = ", ".join(f'"{method}": {rate:g}' for method, rate in best if "(" not in method)
    if plain:
        print(f"LEARNING_RATES = {{{plain}}}")
    variants = [f'"{m[:-1]}, learning_rate={rate:g})"' for m, rate in best if "(" in m]
    if variants:  # no constant holds the rate of a variant
        print("METHODS:", *variants, sep="\n  ")
    for pooling in table.loc[table["chosen"] & of_probe, "pooling"]:
        other = pooling != experiment.settings.pooling
        again = f"; for the methods' rates with it: --tune --fresh --pooling {pooling}"
        print(f'POOLING = "{pooling}", by the probe{again if other else ""}')
    drawn = table.loc[~of_probe, "validation_loss"].notna().any()
    print("Written:", file, *([tuning_figure(file)] if drawn else []), sep="\n  ")
