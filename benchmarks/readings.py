"""Where should an encoder be read, for each task? A probe's loss, within its own labels.

    python -m benchmarks.readings               docs/results/readings.csv, half an hour of two cores
    python -m benchmarks.readings minilm r8     the row of one encoder and task anew

1,000 labelled texts of at most 128 tokens, no test text among them. For each value of POOLING a
probe is fitted; its loss is the mean over the five folds of its cross-validation (in nats), at the
best C.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import data_utils
import finetuning
import hardware
import modeling
from experiment import compute_all, parse
from modeling.architectures import architecture_of
from modeling.pooling import mean_of_tokens

TABLE = Path(__file__).parents[1] / "docs" / "results" / "readings.csv"
LABELS, MAX_TOKENS = 1000, 128


def read(model, split: data_utils.Split) -> dict[str, np.ndarray]:
    """What a head would read of each text, (n, d) or, of all layers, (n, (L + 1) d)."""
    config, d = model.config, model.config.hidden_size
    own = architecture_of(config).own_pooling

    def compute(batch):
        ids, mask = batch.tokens
        layers = model.base_model(ids, mask, output_hidden_states=True).hidden_states
        means = [mean_of_tokens(hidden, mask) for hidden in layers]
        return torch.stack([own(config, layers[-1], mask), *means], 1)

    into = torch.zeros(len(split), (config.num_hidden_layers + 2) * d, dtype=model.dtype)
    found = compute_all(into, compute, split, parse(vars(finetuning), [])).numpy()
    return {"first": found[:, :d], "mean": found[:, -d:], "layers": found[:, d:]}


def losses(encoder: str, task: str) -> dict[str, float]:
    """The loss of a probe for each reading."""
    reviews = data_utils.load_task(task).split(labels=LABELS)
    folder = str(data_utils.encoder_folder(encoder))
    config = modeling.load_config(folder, reviews.label_names, encoder_dropout=0.0)
    tokenizer = modeling.load_tokenizer(folder, config, MAX_TOKENS)
    model = modeling.load_pretrained(folder, config).eval()
    splits = [data_utils.tokenise(part, tokenizer) for part in (reviews.train, reviews.validation)]
    parts = [read(model, split) for split in splits]
    labels = np.concatenate([split.labels for split in splits])
    groups = splits[0].groups and splits[0].groups + splits[1].groups
    found = {}
    with threadpool_limits(1, "blas"):
        for reading in parts[0]:
            features = np.concatenate([part[reading] for part in parts])
            search = modeling.fit_probe(features, labels, groups)[-1]
            found[reading] = -search.best_score_
            print(f"{encoder}, {task}, {reading}: {found[reading]:.3f}", flush=True)
    return found


def main(encoders: list[str], tasks: list[str]) -> None:
    """Measure these, and write their rows of the table."""
    hardware.prepare_device(torch.device("cpu"))
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"encoder": [], "task": []})
    for encoder in encoders:
        for task in tasks:
            row = {"encoder": encoder, "task": task} | losses(encoder, task)
            table = table[(table["encoder"] != encoder) | (table["task"] != task)]
            table = pd.concat([table, pd.DataFrame([row])])
            table.to_csv(TABLE, index=False, float_format="%.4f")


if __name__ == "__main__":
    chosen = sys.argv[1:]
    main(
        [name for name in data_utils.ENCODERS if name in chosen] or list(data_utils.ENCODERS),
        [name for name in data_utils.TASKS if name in chosen] or list(data_utils.TASKS),
    )
