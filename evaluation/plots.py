"""Which figures an experiment has: one question each."""

from pathlib import Path

from . import comparisons
from .curves import depths, learning_curves, learning_rates
from .markdown import count
from .matrices import changes_map, confusion_matrices
from .results import Results
from .style import save, set_style


def draw(results: Results) -> dict[Path, str]:
    """Draw every figure into the experiment's folder; returns their paths and titles.

    A figure that these runs say nothing about (differences of a single method, learning curves
    of what does not learn by epochs) is left out.
    """
    set_style()
    drawn = {}
    for name, title, figure in _figures(results):
        if figure is not None:
            path = results.folder / f"{name}.png"
            drawn[save(path, figure, title, subtitle(results))] = title
    return drawn


def _figures(results):
    """The name, the title and what a drawing function returned; None where there is nothing."""
    for name, (column, title, scale) in comparisons.BARS.items():
        yield name, title, comparisons.bars(results, column, scale)
    yield "cost_and_benefit", "What does accuracy cost?", comparisons.cost_and_benefit(results)
    yield "blocks", "What do fewer blocks cost?", depths(results)
    title = "How sensitive is each method to its learning rate?"
    yield "learning_rates", title, learning_rates(results)
    title = "Which methods are significantly different?"
    yield "differences", title, comparisons.differences(results)
    yield "confusion", "Which labels are taken for which?", confusion_matrices(results)
    by_epoch, by_second = learning_curves(results, "epoch"), learning_curves(results, "seconds")
    yield "learning_curves_epochs", "How do the methods learn, epoch by epoch?", by_epoch
    yield "learning_curves_seconds", "How do the methods learn, second by second?", by_second
    for method in results.changes["method"].unique():
        run = results.runs.index[results.runs["method"] == method][0]
        title = f"Where did {results.looks[method].label} change the model?"
        yield f"changes_{run.rsplit('-seed', 1)[0]}", title, changes_map(results, method)


def subtitle(results: Results) -> str:
    """What every figure was measured on."""
    experiment, seeds = results.experiment, results.runs["seed"].nunique()
    data, constants = experiment["data"], experiment["constants"]
    return (
        f"experiment “{constants['experiment']}”: {experiment['model']} on "
        f"{experiment['data_set']}\n{data['train']:,} training and {data['test']:,} test reviews, "
        f"up to {constants['max_tokens']} tokens, {count(seeds, 'seed')}"
    )
