"""SetFit (Tunstall et al. 2022, arXiv:2209.11055), a peer for few labels, beside our methods.

    pip install setfit==1.2.0
    python -m benchmarks.setfit --experiment few-rotten --methods setfit ...     any other option

A run like any other, in the experiment's folder: the same encoder, tokens, labels and test. As its
authors' package has it: contrastive training of the whole encoder on pairs of texts, R = 20 pairs
of each kind for every text, one epoch, a rate of 2e-5, not tuned; then a logistic regression on the
mean of the last hidden states. Like the probe it gets validation's labels too.
"""

import sys
import tempfile
from unittest import mock

import torch
from datasets import concatenate_datasets

import finetuning
import hardware
from experiment import Experiment, Run, fit_baseline, score
from modeling import methods

NAME = "setfit"


def fit(experiment: Experiment, run: Run) -> None:
    """One run of SetFit, or of one of our baselines."""
    if run.method.name != NAME:
        return fit_baseline(experiment, run)
    from setfit import SetFitModel, Trainer, TrainingArguments

    settings, splits = experiment.settings, experiment.splits(run.seed)
    reviews, clock = experiment.reviews(run.seed), hardware.Clock(experiment.device)
    torch.manual_seed(run.seed)
    model = SetFitModel.from_pretrained(experiment.config._name_or_path)
    model.model_body.max_seq_length = settings.max_tokens
    model.model_body.tokenizer.truncation_side = settings.truncation
    with clock, tempfile.TemporaryDirectory() as folder:
        given = {"num_iterations": 20, "seed": run.seed, "save_strategy": "no", "report_to": "none"}
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=folder, **given),
            train_dataset=concatenate_datasets([reviews.train, reviews.validation]),
        )
        trainer.train()
    facts, logits = {"training_seconds": clock.seconds}, None
    for name in ("train", "test"):
        logits = model.predict_proba(list(splits[name].texts)).float().clamp_min(1e-12).log().cpu()
        facts[f"{name}_loss"], facts[f"{name}_accuracy"] = score(logits, splits[name])
    experiment.finish(run, facts, logits)


def main(arguments: list[str]) -> int:
    """Run finetuning.py with one more method; returns the exit status."""
    known = mock.patch.object(methods, "BASELINES", (*methods.BASELINES, NAME))
    with known, mock.patch.object(finetuning, "fit_baseline", fit):
        return finetuning.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
