r"""Classify the texts of a file with the classifier that a run has trained.

    python -m modeling.predict results/tickets/final new.csv        writes predictions.csv

The file is .csv, .tsv, .json, .jsonl or .parquet, as in training. The texts are in the column that
training read, or in --text-column. The output has the file's own columns, a label, its probability
as confidence, and a probability_<label> for each label, to six decimals. Where the file has columns
of these names, ours begin with predicted_. The label is empty for an empty text, and for a text of
which the tokenizer makes no token.

The output is CSV in UTF-8, with the file's own separator. Where it is a semicolon, probabilities
have decimal commas: such files come from spreadsheets where a comma is the decimal sign. The output
begins with a byte-order mark, unless the file is UTF-8 without one. Without the mark, Excel would
show other letters for é and ü.

A spreadsheet runs a cell that begins with = + - @, a tab or a return as a formula, and texts may
come from anyone. So such a cell, unless it is a number, gets an apostrophe in front, in all columns
and in the header (OWASP, "CSV injection"). All other cells are as they were.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

import boundary
import hardware
from boundary import BadInput, Parser, expanded, plain_cell, refuse, replacing, writing
from data_utils import encoding_doubts, raw_texts, read_chunks

from .checkpoint import checkpoint_folder, read_about
from .finetuned import Finetuned, load_finetuned

ROWS = 4096  # rows of the file in memory at once
SECONDS = 30  # between two signs of progress in a log


def main(arguments: list[str] | None = None) -> int:
    """Read, classify, write; returns 0, 1 out of memory, 2 for bad input, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        predict_file(parser().parse_args(arguments))
    except BadInput as error:
        return refuse(error, arguments)
    except (MemoryError, RuntimeError) as error:
        if not hardware.is_out_of_memory(error):
            raise
        print(f"{hardware.OUT_OF_MEMORY}: nothing is written", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing is written", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The options, which --help shows; errors are `BadInput`."""
    options = Parser(
        prog="python -m modeling.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument("folder", help="of a run, a final model, or an experiment that has one")
    options.add_argument("texts", type=expanded, help="a file with a column of texts")
    options.add_argument("--output", type=expanded, default=Path("predictions.csv"))
    options.add_argument("--text-column", help="default: the column that training read")
    options.add_argument("--base", help="the encoder, where it is not at its recorded place")
    options.add_argument("--traceback", action="store_true", help="show where bad input was found")
    return options


def predict_file(asked: argparse.Namespace) -> None:
    """Classify the texts of a file, a chunk at a time. Raises `BadInput`."""
    folder = checkpoint_folder(expanded(asked.folder))
    about = read_about(folder)
    column, first, rest = opened(asked, asked.text_column or about.text_column or "text")
    names = added_columns(list(first), about.label_names)
    total, empty = first.attrs["rows"], 0
    sign = "\t" if asked.output.suffix.lower() == ".tsv" else first.attrs.get("separator", ",")
    point = "," if sign == ";" else "."  # as spreadsheets that write ; do
    layout = {"index": False, "lineterminator": "\n", "sep": sign, "decimal": point}
    is_marked = first.attrs.get("encoding", "utf-8") != "utf-8"
    with output(asked.output, "utf-8-sig" if is_marked else "utf-8") as file:  # before all else
        print(f"{asked.texts}: {first.attrs['read_as']}; {total:,} texts in {column!r}")
        for doubt in encoding_doubts(first, [column]):
            print(f"warning: {doubt}")
        hardware.prepare_device(hardware.choose_device())
        classify = load_finetuned(folder, asked.base)
        seconds = 0.1 if sys.stderr.isatty() else SECONDS
        with tqdm(total=total, unit="text", mininterval=seconds, delay=seconds) as bar:
            for chunk in chain([first], rest):
                texts = raw_texts(chunk[column], asked.texts)
                probabilities = classify.probabilities(texts, bar.update)
                empty += int(probabilities[:, 0].isnan().sum())
                table = labelled(chunk, classify, probabilities, names)
                file.write(table.to_csv(header=chunk is first, **layout))
    unlabelled = f"; empty, without a label: {empty:,}" if empty else ""
    print(f"{total:,} texts, by {about.method}: {asked.output}{unlabelled}")
    if names[0] != "label":
        print(f"the file has columns of our names: ours are {', '.join(names)}")


def opened(asked: argparse.Namespace, column: str) -> tuple[str, pd.DataFrame, Iterator]:
    """The column of texts, the file's first chunk, and its other chunks; all rows are checked."""
    chunks = read_chunks(asked.texts, ROWS, column)
    first = next(chunks)
    if column in first:
        return column, first, chunks
    alike = [name for name in first if str(name).strip().casefold() == column.strip().casefold()]
    if len(alike) == 1 and not asked.text_column:  # as in training: in any case
        return opened(asked, alike[0])
    line = f"{asked.texts} has no column {column!r}; it has {', '.join(map(repr, first))}"
    raise BadInput(f"{line}; name it with --text-column")


def added_columns(columns: list[str], label_names: list[str]) -> list[str]:
    """The names of our columns, none of which the file has."""
    names = ["label", "confidence", *(f"probability_{label}" for label in label_names)]
    while set(names) & set(columns):
        names = [f"predicted_{name}" for name in names]
    return names


def labelled(
    chunk: pd.DataFrame, classify: Finetuned, probabilities: Tensor, names: list[str]
) -> pd.DataFrame:
    """The rows of the file with our columns; no cell is a formula."""
    labels = [label for label, _ in classify.best(probabilities)]
    table = chunk.assign(**{names[0]: labels})
    table = table.apply(lambda column: pd.Series(map(_cell, column), column.index, object))
    numbers = np.column_stack([probabilities.amax(1), probabilities]).astype(float).round(6)
    added = pd.DataFrame(numbers, chunk.index, names[1:])
    table = pd.concat([table, added], axis=1)
    table.columns = map(plain_cell, table)
    return table


def _cell(value):
    if isinstance(value, dict | list):  # of JSON and Parquet
        value = json.dumps(value, ensure_ascii=False, default=str)
    return plain_cell(value) if isinstance(value, str) else value


@contextmanager
def output(path: Path, encoding: str) -> Iterator[TextIO]:
    """A file that takes its place at `path` once it is whole. Raises `BadInput`."""
    with writing(path, "choose another --output; nothing is written"):
        if path.exists():
            raise BadInput(f"{path} exists; move it, or choose another --output")
        if path.suffix.lower() not in (".csv", ".tsv", ""):
            raise BadInput(f"{path}: the output is CSV; choose an --output that ends in .csv")
        with replacing(path) as part, part.open("w", encoding=encoding, newline="") as file:
            yield file


if __name__ == "__main__":
    boundary.interrupt_once()
    boundary.steady_output()
    sys.exit(main())
