"""SetFit (Tunstall et al. 2022, arXiv:2209.11055), a peer for few labels.

    pip install setfit==1.2.0
    python -m studies.setfit --methods setfit lora --contrasts "lora - setfit"

Any option of finetuning.py may follow; the same command resumes. A run of `setfit` has the same
encoder, tokens, labels and test as the others, and is as its authors' package has it: the whole
encoder learns from 20 pairs of each kind for every text, one epoch at a rate of 2e-5, not tuned;
then a logistic regression on the encoder's own sentence vectors. It gets all labels, as a probe.
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
from studies.work import run_as


def fit(experiment: Experiment, run: Run) -> None:
    """One run that is fitted: SetFit, or one of our baselines."""
    if run.method.name != "setfit":
        return fit_baseline(experiment, run)
    from setfit import SetFitModel, Trainer, TrainingArguments

    settings, splits = experiment.settings, experiment.splits(run.seed)
    reviews, clock = experiment.reviews(run.seed), hardware.Clock(experiment.device)
    torch.manual_seed(run.seed)
    model = SetFitModel.from_pretrained(experiment.config._name_or_path)
    model.model_body.max_seq_length = settings.max_tokens
    model.model_body.tokenizer.truncation_side = settings.truncation
    with clock, tempfile.TemporaryDirectory() as folder:
        options = {"num_iterations": 20, "seed": run.seed, "save_strategy": "no"}
        Trainer(
            model=model,
            args=TrainingArguments(output_dir=folder, report_to="none", **options),
            train_dataset=concatenate_datasets([reviews.train, reviews.validation]),
        ).train()
    facts = {"training_seconds": clock.seconds}
    for name in ("train", "test"):
        logits = model.predict_proba(list(splits[name].texts)).float().clamp_min(1e-12).log().cpu()
        facts[f"{name}_loss"], facts[f"{name}_accuracy"] = score(logits, splits[name])
    experiment.finish(run, facts, logits)


def main(arguments: list[str]) -> int:
    """Run finetuning.py with one more method that is fitted; returns the exit status."""
    known = mock.patch.object(methods, "BASELINES", methods.BASELINES | {"setfit": {}})
    with known, mock.patch.object(finetuning, "fit_baseline", fit):
        return run_as("studies.setfit", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
