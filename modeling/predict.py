"""Labels and probabilities of new texts, by the classifier that a run has left.

    python -m modeling.predict results/quick/lora-seed0 texts.csv      writes predictions.csv

The table of texts has a column `text` (or --text-column NAME). Row by row in its order,
predictions.csv (or --output FILE) has the label, and a probability for each of the labels.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

import hardware
from boundary import BadInput, expanded, reading, refuse, write

from .fast import use_fast_attention
from .finetuned import load_finetuned


def main(arguments: list[str] | None = None) -> int:
    """Read, classify, write; returns the exit status: 0, or 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="modeling.predict", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="the folder of a run: results/<experiment>/<method>-seed<k>")
    parser.add_argument("texts", help="a CSV file with a column of texts")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--base", help="the pretrained model, where it is not at its old place")
    parser.add_argument("--output", type=expanded, default=Path("predictions.csv"))
    parser.add_argument("--traceback", action="store_true", help="show where bad input was found")
    asked = parser.parse_args(arguments)
    try:
        writing = str(asked.output), "choose another --output", "written"
        with reading(*writing):  # before anything is computed
            if asked.output.exists():
                raise BadInput(f"{asked.output} exists; move it, or choose another --output")
            asked.output.parent.mkdir(parents=True, exist_ok=True)
        texts = _read(expanded(asked.texts), asked.text_column)
        table = _classified(load_finetuned(asked.run, asked.base), texts)
        with reading(*writing):
            write(asked.output, table.to_csv(index=False))
    except BadInput as error:
        return refuse(error, arguments)
    print(f"{len(table):,} texts: {asked.output}")
    return 0


def _classified(classify, texts) -> pd.DataFrame:
    device = hardware.choose_device()
    use_fast_attention(classify.model.to(device).pretrained, device)
    probabilities = classify.probabilities(texts, progress=True)
    names = [f"probability_{name}" for name in classify.label_names]
    table = pd.DataFrame(probabilities.numpy(), columns=names)
    table.insert(0, "label", [classify.label_names[i] for i in probabilities.argmax(1)])
    return table


def _read(path, column) -> list[str]:
    with reading(str(path), "expected a CSV file in UTF-8"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if column not in table:
        columns = ", ".join(map(repr, table.columns))
        raise BadInput(f"{path} has no column {column!r}; it has {columns}; give --text-column")
    return table[column].tolist()


if __name__ == "__main__":
    sys.exit(main())
