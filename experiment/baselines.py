"""Runs that are fitted, not trained: word counts, and a probe on the frozen encoder's features."""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

import hardware
import modeling
from data_utils import Split
from modeling import Method

from .experiment import Experiment
from .inference import features, score
from .runs import Run


def fit_baseline(experiment: Experiment, run: Run) -> None:
    """One run that is fitted, not trained, to all labels: those of training and of validation.

    Its validation loss is that of cross-validation within them.
    """
    settings, splits = experiment.settings, experiment.splits(run.seed)
    fit, encoder, shared = modeling.fit_bag_of_words, None, {"shared_seconds": 0.0}
    clock = hardware.Clock(experiment.device)
    if run.method.name == modeling.PROBE:
        pooling, fit = run.method.hyperparameters["pooling"], modeling.fit_probe
        encoder = experiment.build(Method("head", {}), pooling)
        splits, seconds = experiment.states(encoder, run.seed)
        shared = {"shared_seconds": seconds, "frozen_blocks": encoder.frozen_blocks}

    def inputs(name):
        if encoder:
            return features(encoder, splits[name], settings)
        return np.array(splits[name].texts, object)  # no strings all as long as the longest

    hardware.reset_peak_memory(experiment.device)
    with clock:
        pipeline = fit_to_all_labels(fit, splits, inputs)
    memory = hardware.peak_memory(experiment.device)
    facts = {"training_seconds": clock.seconds, "peak_memory_mib": memory} | shared
    facts["validation_loss"] = modeling.cross_validated_loss(pipeline)
    logits = None
    for name in ("train", "test") if "test" in splits else ():
        logits = modeling.log_probabilities(pipeline, inputs(name))
        facts[f"{name}_loss"], facts[f"{name}_accuracy"] = score(logits, splits[name])
    experiment.finish(run, facts, logits)


def fit_to_all_labels(
    fit: Callable, splits: Mapping[str, Split], inputs: Callable[[str], np.ndarray]
) -> Pipeline:
    """`fit` with the `inputs` and labels of both training and validation."""
    train, validation = splits["train"], splits["validation"]
    labels = np.concatenate([train.labels.cpu(), validation.labels.cpu()])
    groups = train.groups and train.groups + validation.groups
    # OpenBLAS's threads spin: beside other work they take minutes for seconds of computation.
    with threadpool_limits(1, "blas"):
        return fit(np.concatenate([inputs("train"), inputs("validation")]), labels, groups)
