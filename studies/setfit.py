"""SetFit (Tunstall et al. 2022, arXiv:2209.11055), a peer for few labels.

    pip install setfit==1.2.0
    python -m studies.setfit --preset quick --methods setfit lora --contrasts "lora - setfit"

Any option of finetuning.py may follow, such as --dataset tickets.csv; the same command resumes. A
run of `setfit` has the same encoder, tokens, labels, test and precision as other methods' runs. It
trains as in its authors' experiments: the whole encoder learns from 20 pairs of each kind for every
text, one epoch at a rate of 2e-5, not tuned; then a logistic regression learns from the encoder's
own sentence vectors. It gets all labels, as a probe does. Its model is not kept.
"""

import sys
import tempfile

import torch
from datasets import Dataset
from torch import Tensor

import finetuning
import hardware
from boundary import BadInput
from data_utils import Split
from evaluation.metrics import scores
from experiment import Data, Run, Settings, run_experiment
from experiment.work import fit_baseline
from modeling import BASELINES

LOOP = finetuning.train, finetuning.evaluate
PROGRAM = "-m", "studies.setfit"
PAIRS = 20  # of each kind for each text, as their code did


def fit(run: Run, data: Data, settings: Settings) -> None:
    """One run that is fitted: SetFit, or one of our baselines."""
    if run.method.name != "setfit":
        return fit_baseline(run, data, settings)
    if settings.final:
        raise BadInput("this study keeps no model of SetFit; train one with its own package")
    labelled, test = data.labelled(run), data.splits(run)["test"]
    hardware.reset_peak_memory(data.device)
    with run.training_clock:
        model = train(labelled, data, run.seed)
    facts = {"peak_memory_mib": hardware.peak_memory(data.device), "scores": {}}
    for name, split in (("train", labelled), ("test", test)):
        with run.evaluation_clock:
            logits = log_probabilities(model, split)
        facts["scores"] |= scores(split.labels.cpu().numpy(), logits.numpy(), f"{name}_")
    facts["other_load"] = hardware.other_load(data.device)
    run.finish(facts, test, logits)


def train(labelled: Split, data: Data, seed: int):
    """A new SetFitModel, trained on all labelled texts of a seed.

    Each forward pass has an autocast of its own. An autocast around many steps would keep its first
    casts of the weights, so that no forward pass would use what the steps have learnt.
    """
    from setfit import SetFitModel, Trainer, TrainingArguments

    torch.manual_seed(seed)
    model = SetFitModel.from_pretrained(data.encoder.config._name_or_path)
    model.model_body.forward = hardware.autocast(data.device)(model.model_body.forward)
    model.model_body.max_seq_length = data.settings.max_tokens
    model.model_body.tokenizer.truncation_side = data.settings.truncation
    rows = {"text": labelled.texts, "label": labelled.labels.tolist()}
    with tempfile.TemporaryDirectory() as folder:
        options = {"num_iterations": PAIRS, "seed": seed, "save_strategy": "no"}
        arguments = TrainingArguments(output_dir=folder, report_to="none", **options)
        Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows)).train()
    return model


def log_probabilities(model, split: Split) -> Tensor:
    """Log-probabilities of the n texts of a split, (n, C) on the CPU."""
    return model.predict_proba(split.texts).float().clamp_min(1e-12).log().cpu()


def main(arguments: list[str]) -> int:
    """Run finetuning.py with one more method that is fitted; returns the exit status."""
    BASELINES["setfit"] = {}
    return run_experiment(vars(finetuning), arguments, LOOP, fit, PROGRAM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
