"""The settings of an experiment: the constants of finetuning.py, a preset, the command line."""

import argparse
import os
import re
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import numpy as np
import pydantic
import torch

from boundary import BadInput, Parser, expanded, quoted
from data_utils import READERS, TASKS, WITHOUT_TEST

from .settings import CONSTANTS, LIMITS, Presets, Settings, in_words

NONE = ("none", "all", "own")  # words for None on the command line, in any letter case
COMMAND = Path(__file__).parent.parent / "finetuning.py"


def parse(
    namespace: dict[str, Any], arguments: list[str], program: tuple[str, ...] = ()
) -> Settings:
    """The settings of an experiment, from constants in upper case and the command line.

    PRESET chooses among the values of a constant that has several. Where PRESET is None, it is
    "own" for one's own data set, which is neither a task nor a preset's. For every other data set
    it is "full" if CUDA is available, and "quick" elsewhere. `program` is the program in the
    command that resumes the experiment, such as ("-m", "studies.setfit"); finetuning.py where it is
    empty. Raises `BadInput` for a value, a constant or an option that is not allowed.
    """
    constants = {k.lower(): v for k, v in namespace.items() if re.fullmatch("[A-Z][A-Z0-9_]*", k)}
    given = vars(_parser(constants).parse_args(arguments))
    del given["traceback"]  # `refuse` looks for it in `arguments`, parsed or not
    final = given.pop("final")
    values = _of_preset(constants, given)
    if "learning_rates" in given:
        rates = values.get("learning_rates", {})
        for pairs in given["learning_rates"]:
            rates = rates | _by_method(pairs)
        given["learning_rates"] = rates
    values |= given | {"preset": values["preset"], "final": final is not None}
    if final is not None:
        values |= {"methods": (final,), "seeds": (0,), "contrasts": ()}
    values["command"] = _command(arguments, values["preset"], program)
    try:
        settings = Settings(**_plain(values))
    except pydantic.ValidationError as error:
        raise BadInput(in_words(error, options=given)) from None
    parts = [part for method in settings.methods for part in method.parts or (method,)]
    if settings.final and any(part.labels < 1 for part in parts):
        raise BadInput(f"--final {final!r}: a final model learns all texts; leave labels= out")
    return settings


def _of_preset(constants, given):
    """The preset, and each constant's value for this preset and this kind of data set."""
    is_own = _is_own(constants.get("dataset"), given)
    default = "own" if is_own else "full" if torch.cuda.is_available() else "quick"
    preset = given.get("preset", constants.get("preset")) or default
    if preset not in Presets._fields:
        raise BadInput(f"PRESET is {preset!r}; choose from {', '.join(Presets._fields)}")
    values = {}
    for name, value in constants.items():
        chosen = "own" if is_own and name in LIMITS else preset
        values[name] = getattr(value, chosen) if isinstance(value, Presets) else value
    merged = values | given
    has_folds = is_own or merged.get("dataset") in WITHOUT_TEST
    has_presets = isinstance(constants.get("seeds"), Presets)  # else SEEDS was edited
    if has_folds and has_presets and re.fullmatch(r"\d{1,3}", str(merged.get("folds"))):
        values["seeds"] = tuple(range(int(merged["folds"])))  # every fold is tested
    if merged.get("experiment", "") is None:
        values["experiment"] = _name_of(merged["dataset"]) if is_own else preset
    return values | {"preset": preset, "is_own": is_own}


def _is_own(constant, given):
    """Whether the data set is neither a task nor a preset's; `constant` is DATASET."""
    of_presets = constant if isinstance(constant, Presets) else ()
    for each in of_presets:
        if isinstance(each, str) and _is_local(each):
            raise BadInput(f"DATASET has {each} for one preset; write DATASET = {each!r}")
    dataset = given.get("dataset", constant)
    return isinstance(dataset, str) and dataset not in (*TASKS, *of_presets)


def _is_local(dataset):
    """Whether a data set is a file or a folder, and no task or hub name."""
    path = expanded(dataset)
    is_path = path.exists() or path.suffix.lower() in READERS or dataset.startswith((".", "/", "~"))
    return dataset not in TASKS and is_path


def _name_of(dataset):
    """The experiment's name on one's own data: tickets for tickets.csv, name for owner/name."""
    path = Path(os.path.abspath(expanded(dataset)))
    name = path.stem if path.suffix.lower() in READERS else path.name
    return name.replace(":", "-").rstrip(". ") or "own"  # what Windows allows


def _command(arguments, preset, program):
    """The command that repeats or resumes the experiment: without --fresh, with its preset."""
    options = [argument for argument in arguments if argument != "--fresh"]
    if not any(option.split("=")[0] == "--preset" for option in options):
        options = ["--preset", preset, *options]
    is_near = Path.cwd().drive == COMMAND.drive  # else there is no relative path
    file = Path(os.path.relpath(COMMAND)) if is_near else COMMAND
    return " ".join(map(quoted, ["python", *(program or (file.as_posix(),)), *options]))


def _plain(value):
    """The value, with tuples for lists, ranges and arrays, and Python's numbers for numpy's."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, tuple | list | range) else value


def _parser(constants):
    parser = Parser(
        prog="python finetuning.py",
        allow_abbrev=False,
        description="Compare parameter-efficient fine-tuning methods on labelled texts. "
        "Every constant at the top of finetuning.py can be given here; its value there is shown.",
    )
    source = COMMAND.read_text(encoding="utf-8")
    comments = dict(re.findall(r"^([A-Z][A-Z0-9_]*) = .*?  # (.*)$", source, re.M))
    for name in CONSTANTS:
        text = f"{comments.get(name.upper(), '')} ({constants.get(name)})".replace("%", "%%")
        options = {"default": argparse.SUPPRESS, "help": text.strip()} | _option(name)
        parser.add_argument("--" + name.replace("_", "-"), **options)
    final = "train METHOD on all texts, for modeling.predict, into <experiment>/final"
    parser.add_argument("--final", metavar="METHOD", default=None, help=final)
    parser.add_argument("--fresh", action="store_true", help="set earlier results aside")
    parser.add_argument("--traceback", action="store_true", help="show where bad input was found")
    return parser


def _option(name):
    """How argparse should read one constant; pydantic makes numbers of the texts."""
    kind = Settings.model_fields[name].annotation
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if name == "learning_rates":
        option = {"type": _rates, "nargs": "+", "metavar": "METHOD=RATE[,RATE ...]"}
        return option | {"action": "append"}  # a later one counts before an earlier one
    if get_origin(kind) is tuple:
        return {"nargs": "*", "metavar": "VALUE"}
    none = NONE[:1] if name.endswith("_column") else NONE  # "all" may be a column's name
    can_be_none = NoneType in get_args(kind)
    return {"metavar": "VALUE", "type": lambda x: None if can_be_none and x.lower() in none else x}


def _rates(text):
    method, equals, rates = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form METHOD=RATE")
    return method, tuple(rates.split(","))


def _by_method(pairs):
    """The rates by method; a method that is given twice is refused, as one would be ignored."""
    methods = [method for method, _ in pairs]
    for method in methods:
        if methods.count(method) > 1:
            line = f"--learning-rates has {method!r} twice; give all of its rates at once"
            raise BadInput(f"{line}, such as {method}=0.001,0.01")
    return dict(pairs)
