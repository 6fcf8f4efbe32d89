"""What are trained models worth on another task, and with updates of low rank?

    python -m studies.after_training results/more-rotten rotten-tomatoes imdb

Tests every trained run of an experiment on these tasks, and adds a row for each to
docs/results/after_training.csv. Of `full` also what is left when the update of each matrix is cut
to its largest singular values, `rank` of them; biases, norms and the head stay as trained.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor

from data_utils import load_task
from modeling import FullModel, PeftModel, load_finetuned, load_pretrained
from studies.work import put_rows

TABLE = Path(__file__).parents[1] / "docs" / "results" / "after_training.csv"
RANKS = (0, 1, 2, 4, 8, 16, 64)
TOKENS = 128  # on every task


@torch.no_grad()
def cuts(model: PeftModel, before: dict[str, Tensor]) -> Iterator[int | None]:
    """Leave the update of each matrix, from `before`, at each of RANKS; first, None, as it is."""
    yield None
    matrices = {
        parameter: (before[name], torch.linalg.svd(parameter - before[name], full_matrices=False))
        for name, parameter in model.pretrained.named_parameters()
        if parameter.requires_grad and parameter.ndim == 2 and not model.architecture.in_head(name)
    }
    for rank in RANKS:
        for parameter, (start, (u, s, v)) in matrices.items():
            parameter.copy_(start + (u[:, :rank] * s[:rank]) @ v[:rank])
        yield rank


def measure(folder: Path, test: Dataset) -> Iterator[tuple[int | None, float]]:
    """The accuracy of one run's model, and of a fully fine-tuned one at each rank."""
    classify, ranks = load_finetuned(folder), [None]
    classify.tokenizer.model_max_length = TOKENS
    if isinstance(classify.model, FullModel):
        config = classify.model.pretrained.config
        before = load_pretrained(config._name_or_path, config)
        ranks = cuts(classify.model, dict(before.named_parameters()))
    for rank in ranks:
        found = classify.probabilities(list(test["text"])).argmax(1).numpy()
        yield rank, (found == test["label"]).mean()


def main(folder: str, *tasks: str) -> None:
    """Test the runs of the experiment in this folder; the table is written after each."""
    for task in tasks:
        test = load_task(task).split(test_examples=2500).test
        for run in sorted(path.parent for path in Path(folder).glob("*/checkpoint.json")):
            about = {"experiment": run.parent.name, "run": run.name, "task": task}
            rows = []
            for rank, accuracy in measure(run, test):
                rows.append(about | {"rank": rank, "test_accuracy": accuracy})
                print(*rows[-1].values(), flush=True)
            put_rows(TABLE, rows, list(about))


if __name__ == "__main__":
    main(*sys.argv[1:])
