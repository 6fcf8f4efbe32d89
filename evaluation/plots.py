"""Which figures an experiment has: one question each."""

import sys
from functools import partial
from pathlib import Path

from boundary import reason

from . import advised, comparisons
from .curves import VARIED, hyperparameter, learning_curves, learning_rates
from .markdown import count
from .results import Results
from .style import save, set_style


def draw(results: Results) -> dict[Path, str]:
    """Draw the figures into the experiment's folder; returns their paths and titles.

    A figure that these runs say nothing about (differences of a single method, learning curves of
    what does not learn by epochs) is left out, and with compact results those that are not there
    already. One that cannot be drawn costs a line on standard error.
    """
    set_style()
    drawn = {}
    for name, title, function in _figures():
        path = results.folder / f"{name}.png"
        if path in drawn or (results.is_compact and not path.exists()):
            continue
        try:
            figure = function(results)
            if figure is not None:
                drawn[save(path, figure, title, subtitle(results))] = title
        except Exception as error:  # a drawing is not worth an experiment
            print(f"warning: {path} was not drawn ({reason(error)})", file=sys.stderr)
    return drawn


def _figures():
    """Name, title and drawing function, which returns None where there is nothing to draw."""
    yield "accuracies", "How accurate is each method?", advised.accuracies
    yield "confusion_matrix", "Which labels are taken for which?", advised.confusion_matrix
    title = "How accurate is it if the least confident texts go to a person?"
    yield "referral", title, advised.referral
    for name, what in comparisons.bar_figures().items():
        yield name, what.title, partial(comparisons.bars, what=what)
    yield "cost_and_benefit", "What does accuracy cost?", comparisons.cost_and_benefit
    yield "learning_rates", "Which learning rate suits each method?", learning_rates
    for name, words in VARIED.items():
        title = f"How does accuracy depend on the {words}?"
        yield f"{name.removesuffix('s')}s", title, partial(hyperparameter, name=name)
    yield "differences", "Which differences are more than chance?", comparisons.differences
    yield "learning_curves_epochs", "How do the methods learn?", learning_curves


FILES = tuple(dict.fromkeys(f"{name}.png" for name, *_ in _figures()))


def subtitle(results: Results) -> str:
    """What every figure was measured on."""
    experiment, seeds = results.experiment, results.runs["seed"].nunique()
    data, constants = experiment["data"], experiment["constants"]
    labels = data["train"] + data["validation"]
    texts = f"{labels:,} labelled and {data['test']:,} test texts, {count(seeds, 'seed')}"
    if data["folds"]:
        texts = f"{data['texts']:,} texts, each tested in one of {data['folds']} folds"
    return (
        f"experiment “{constants['experiment']}”: {experiment['model']} on "
        f"{experiment['data_set']}\n{texts}, up to {constants['max_tokens']} tokens"
    )
