"""Files in and commands: whatever stops one is a line with the file's name."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from boundary import BadInput, expanded, reading, reason, refuse

LEARNT = ("epoch", "seconds", "train_loss", "train_accuracy")
LEARNT += ("validation_loss", "validation_accuracy")
HISTORY = {"learning_rate": float, "step": int} | dict.fromkeys(
    LEARNT, float
)  # its columns and their types


def read_table(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """The CSV at `path` with these columns; texts letter by letter, "NA" too. Raises `BadInput`."""
    gaps = {name: [""] for name, kind in columns.items() if kind is not str}
    with reading(str(path)):
        table = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=gaps)
        return table[list(columns)]


def run_command(
    act: Callable[..., list[Path]], arguments: list[str] | None, counts: range, expected: str
) -> int:
    """Do `act` with the folders on the command line, as many as `counts` allows, and print paths.

    Returns the exit status, 0, or 2 for bad input.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    folders = [expanded(argument) for argument in arguments if argument != "--traceback"]
    try:
        if len(folders) not in counts:
            raise BadInput(expected)
        print(*act(*folders), sep="\n")
        return 0
    except BadInput as error:
        return refuse(error, arguments)
    except OSError as error:  # reading has raised BadInput
        return refuse(BadInput(f"{folders[-1]} cannot be written to ({reason(error)})"), arguments)
