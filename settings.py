"""The constants of finetuning.py as one checked object, with the command line's say in them."""

import argparse
import contextlib
import sys
from collections import namedtuple

import torch

import modeling

Columns = namedtuple("Columns", "full quick")  # the two values of a constant

WHOLE = "a whole number, {} or more and below 2**31"  # larger ones overflow in the libraries
COUNT = (WHOLE.format(1), lambda v: is_whole(v, 1))
COUNT_OR_NONE = (f"{COUNT[0]}, or None", lambda v: v is None or is_whole(v, 1))
SHARE = ("a number from 0 to below 1", lambda v: is_number(v) and 0 <= v < 1)
POSITIVE = ("a number above 0", lambda v: is_number(v) and v > 0)
TEXT = ("a text", lambda v: isinstance(v, str) and v.strip())
EXPECTED = {  # what each constant must be, in words and as a test
    "EXPERIMENT": ("a name for a folder, up to 200 bytes", lambda v: is_folder_name(v)),
    "MODEL": TEXT,
    "DATASET": TEXT,
    "TEXT_COLUMN": TEXT,
    "LABEL_COLUMN": TEXT,
    "TRAIN_EXAMPLES": COUNT_OR_NONE,
    "VALIDATION_EXAMPLES": COUNT_OR_NONE,
    "TEST_EXAMPLES": COUNT_OR_NONE,
    "MAX_TOKENS": (WHOLE.format(3), lambda v: is_whole(v, 3)),
    "METHODS": ("a choice of methods, each once", lambda v: is_choice(v, str)),
    "SEEDS": (
        "whole numbers, 0 or more, each once, below 2**63",
        lambda v: is_choice(v, int) and all(is_whole(seed, 0, 2**63) for seed in v),
    ),
    "EPOCHS": COUNT,
    "PATIENCE": COUNT,
    "BATCH_SIZE": COUNT,
    "TUNING_RATES": COUNT,
    "ACCUMULATE": COUNT_OR_NONE,
    "LEARNING_RATES": ("a rate for each method, by its name", lambda v: isinstance(v, dict)),
    "WEIGHT_DECAY": ("a number, 0 or more", lambda v: is_number(v) and v >= 0),
    "WARMUP": SHARE,
    "ENCODER_DROPOUT": ("a share below 1, or None", lambda v: v is None or SHARE[1](v)),
    "LORA_RANK": COUNT,
    "LORA_ALPHA": POSITIVE,
    "LORA_DROPOUT": SHARE,
    "LORA_RANK_STABILISED": ("True or False", lambda v: isinstance(v, bool)),
    "LORA_TARGETS": ("a choice of matrices, each once", lambda v: is_choice(v, str)),
    "ADAPTER_BOTTLENECK": COUNT,
    "GRADIENT_CLIP": POSITIVE,
    "SPLIT_SEED": (WHOLE.format(0), lambda v: is_whole(v, 0)),
    "RESULTS": TEXT,
}


def is_whole(value, least: int, below: int = 2**31) -> bool:
    """Whether a value is an integer in a range."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < below


def is_number(value) -> bool:
    """Whether a value is a finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def is_choice(value, kind: type) -> bool:
    """Whether a value is a tuple or list of `kind`, one or more, each once."""
    if not isinstance(value, tuple | list) or not all(isinstance(item, kind) for item in value):
        return False
    return 0 < len(value) == len(set(value))


def is_folder_name(value) -> bool:
    """Whether a value can name one folder, and be printed in one line."""
    if not isinstance(value, str) or not value.isprintable() or "/" in value:
        return False
    return bool(value.strip(". ")) and len(value.encode()) <= 200


def parse(constants: dict, arguments: list[str] | None = None) -> argparse.Namespace:
    """The settings of a run, by the lower-case names of the UPPERCASE `constants`.

    Values on the command line go before the constants. The experiment's name chooses between
    the two columns; any other name takes "full" where CUDA is there and "quick" elsewhere.
    Raises `ValueError` for a value or an option that cannot be.
    """
    constants = {name: value for name, value in constants.items() if name.isupper()}
    parser = _Parser(
        description="Compare parameter-efficient fine-tuning methods on labelled reviews. "
        "Every constant at the top of finetuning.py can be given here; its value there is shown."
    )
    for name, value in constants.items():
        parser.add_argument("--" + name.lower().replace("_", "-"), **_option(name, value))
    parser.add_argument("--fresh", action="store_true", help="delete this experiment's results")
    parser.add_argument("--tune", action="store_true", help="try learning rates, on validation")
    given = vars(parser.parse_args(arguments))
    flags = {name: given.pop(name) for name in ("fresh", "tune")}
    here = "full" if torch.cuda.is_available() else "quick"
    experiment = given.get("experiment") or _choose(constants["EXPERIMENT"], here)
    column = experiment if experiment in Columns._fields else here
    settings = {name.lower(): _choose(value, column) for name, value in constants.items()}
    rates = dict(given.pop("learning_rates", ()))
    settings |= given | {"experiment": experiment}
    if isinstance(settings["learning_rates"], dict):  # else `_check` refuses it
        settings["learning_rates"] = settings["learning_rates"] | rates
    _check(settings)
    return argparse.Namespace(**settings, **flags)


def _choose(value, column):
    return getattr(value, column) if isinstance(value, Columns) else value


def _option(name, value):
    """How argparse should read one constant."""
    example = _choose(value, "quick")
    texts = [_as_typed(v) for v in (value if isinstance(value, Columns) else [value])]
    now = f"full: {texts[0]}; quick: {texts[1]}" if len(texts) == 2 else texts[0]
    option = {"default": argparse.SUPPRESS, "help": now.replace("%", "%%")}
    if isinstance(example, bool):
        return option | {"action": argparse.BooleanOptionalAction}
    option["metavar"] = "VALUE"
    if name.endswith("_EXAMPLES"):
        return option | {"type": _number_or("all")}
    if name == "ENCODER_DROPOUT":
        return option | {"type": _number_or("own"), "help": f"{now}; or own, the model's"}
    if name == "ACCUMULATE":
        return option | {"type": _number_or("auto"), "help": "auto, or a number of pieces"}
    if name == "LEARNING_RATES":
        return option | {"type": _rate, "nargs": "+", "metavar": "METHOD=RATE"}
    many = {"nargs": "+"} if isinstance(example, tuple | list) else {}
    text = isinstance(next(iter(example), "") if many else example, str)
    return option | many | {"type": str if text else _number}


def _as_typed(value):
    """A constant's value as one would type it on the command line."""
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return "all" if value is None else str(value)


def _number(text):
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number")


def _number_or(word):
    return lambda text: None if text == word else _number(text)


def _rate(text):
    method, equals, rate = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form METHOD=RATE")
    return method, _number(rate)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message}; see python finetuning.py --help")


def _check(settings):
    """Raise `ValueError` for the first value that cannot be."""
    for name, (expected, holds) in EXPECTED.items():
        value = settings[name.lower()]
        if not holds(value):
            raise ValueError(f"{name} is {value!r}; expected {expected}")
    rates = settings["learning_rates"]
    for method in (*settings["methods"], *rates):
        if method not in (modeling.TFIDF, *modeling.METHODS):
            choices = ", ".join((*modeling.METHODS, modeling.TFIDF))
            raise ValueError(f"unknown method {method!r}; choose from {choices}")
    for method in settings["methods"]:
        if method == modeling.TFIDF:
            continue
        if not is_number(rates.get(method)) or rates[method] <= 0:
            raise ValueError(
                f"LEARNING_RATES[{method!r}] is {rates.get(method)}; expected a number above 0"
            )
