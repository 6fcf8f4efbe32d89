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
from tqdm import tqdm

import data_utils
import hardware
import modeling
from modeling.architectures import architecture_of
from modeling.pooling import POOLINGS, mean_of_tokens

TABLE = Path(__file__).parents[1] / "docs" / "results" / "readings.csv"
LABELS, MAX_TOKENS = 1000, 128


@torch.no_grad()
def read(model, split: data_utils.Split) -> dict[str, np.ndarray]:
    """What a head would read of each text, (n, d) or, of all layers, (n, (L + 1) d)."""
    own = architecture_of(model.config).own_pooling
    order, found = [], {reading: [] for reading in POOLINGS}
    with tqdm(total=len(split), unit="text") as bar:
        for rows in data_utils.micro_batches(split.lengths, np.arange(len(split)), 4096):
            ids, mask = split.batch(rows).tokens
            layers = model.base_model(ids, mask, output_hidden_states=True).hidden_states
            means = torch.stack([mean_of_tokens(hidden, mask) for hidden in layers], 1)
            read = own(model.config, layers[-1], mask), means[:, -1], means.flatten(1)
            for reading, features in zip(POOLINGS, read, strict=True):
                found[reading].append(features)
            order.append(rows)
            bar.update(len(rows))
    order = np.argsort(np.concatenate(order))
    return {reading: torch.cat(parts).numpy()[order] for reading, parts in found.items()}


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
        for reading in POOLINGS:
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
