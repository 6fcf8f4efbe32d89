"""The same eight reviews through every method, at its start and after fifty steps.

    python -m benchmarks.eight_reviews      docs/results/eight_reviews.csv, in a few minutes

MiniLM, the last 3 blocks, the same seed and the methods' own learning rates. How far the features
move that the head reads says where a method learns, and nothing of how well it classifies.
"""

from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

import data_utils
import finetuning
import modeling

STEPS = 50
TABLE = Path(__file__).parents[1] / "docs" / "results" / "eight_reviews.csv"


def main() -> None:
    """Train every method for fifty steps, and write the table."""
    folder = str(data_utils.encoder_folder())
    config = modeling.load_config(folder, ["negative", "positive"], encoder_dropout=0.0)
    tokenizer = modeling.load_tokenizer(folder, config, max_tokens=64)
    reviews = pd.read_csv(data_utils.reviews_file()).groupby("label").head(4)
    batch = tokenizer(list(reviews["text"]), padding=True, truncation=True, return_tensors="pt")
    tokens = batch["input_ids"], batch["attention_mask"]
    labels = torch.tensor(reviews["label"].to_numpy())
    rows = []
    for name, method in modeling.METHODS.items():
        torch.manual_seed(0)
        blocks = {} if name == "head" else {"blocks": 3}
        model = method(modeling.load_pretrained(folder, config), **blocks).eval()
        rate = finetuning.LEARNING_RATES.quick.get(name, method.learning_rate)
        measured = fifty_steps(model, tokens, labels, rate)
        for i, label in enumerate(labels.tolist()):
            row = {"method": name, "learning_rate": rate, "review": i, "label": label}
            rows.append(row | {what: values[i].item() for what, values in measured.items()})
        print(name, flush=True)
    pd.DataFrame(rows).to_csv(TABLE, index=False, float_format="%.4f")


def fifty_steps(model, tokens, labels, rate) -> dict[str, torch.Tensor]:
    """Probabilities of the right labels (8,), before and after, and how far the features moved."""
    frozen = model.frozen_states(*tokens) if model.frozen_blocks else None
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=rate)
    features, right = [], []
    for step in range(STEPS + 1):
        pooled = model.encode(*tokens, frozen)
        logits = model.classify(pooled)
        if step in (0, STEPS):
            features.append(pooled.detach())
            right.append(logits.detach().softmax(1).gather(1, labels[:, None])[:, 0])
        optimizer.zero_grad()
        cross_entropy(logits, labels).backward()
        optimizer.step()
    moved = (features[1] - features[0]).norm(dim=1) / features[0].norm(dim=1)
    return {"start": right[0], "after_fifty_steps": right[1], "features_moved": moved}


if __name__ == "__main__":
    main()
