"""The constants of finetuning.py as one checked object, with the command line's say in them."""

import argparse
import contextlib
import math
from collections import namedtuple

import torch

import modeling

Columns = namedtuple("Columns", "full quick")  # the two values of a constant

COUNT = ("a whole number, 1 or more", lambda v: isinstance(v, int) and v >= 1)
SHARE = ("a number from 0 to below 1", lambda v: is_number(v) and 0 <= v < 1)
EXPECTED = {  # what each constant must be, in words and as a test
    "EXPERIMENT": ("a name for a folder", lambda v: v == "".join(v.split("/")) and v.strip(". ")),
    "TRAIN_EXAMPLES": ("a number, or None for all", lambda v: v is None or COUNT[1](v)),
    "VALIDATION_EXAMPLES": ("a number, or None for all", lambda v: v is None or COUNT[1](v)),
    "TEST_EXAMPLES": ("a number, or None for all", lambda v: v is None or COUNT[1](v)),
    "MAX_TOKENS": ("a whole number, 3 or more", lambda v: isinstance(v, int) and v >= 3),
    "METHODS": ("a choice of methods, each once", lambda v: v and len(set(v)) == len(v)),
    "SEEDS": (
        "whole numbers, 0 or more, each once",
        lambda v: v and len(set(v)) == len(v) and all(isinstance(s, int) and s >= 0 for s in v),
    ),
    "EPOCHS": COUNT,
    "PATIENCE": COUNT,
    "BATCH_SIZE": COUNT,
    "TUNING_RATES": COUNT,
    "ACCUMULATE": ("a whole number, 1 or more, or None", lambda v: v is None or COUNT[1](v)),
    "WEIGHT_DECAY": ("a number, 0 or more", lambda v: is_number(v) and v >= 0),
    "WARMUP": SHARE,
    "ENCODER_DROPOUT": ("a share below 1, or None", lambda v: v is None or SHARE[1](v)),
    "LORA_RANK": COUNT,
    "LORA_ALPHA": ("a number above 0", lambda v: is_number(v) and v > 0),
    "LORA_DROPOUT": SHARE,
    "LORA_RANK_STABILISED": ("True or False", lambda v: isinstance(v, bool)),
    "ADAPTER_BOTTLENECK": COUNT,
    "GRADIENT_CLIP": ("a number above 0", lambda v: is_number(v) and v > 0),
    "SPLIT_SEED": ("a whole number, 0 or more", lambda v: isinstance(v, int) and v >= 0),
}


def is_number(value) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


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
    rates = settings["learning_rates"] | dict(given.pop("learning_rates", ()))
    settings |= given | {"experiment": experiment, "learning_rates": rates}
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
    many = {"nargs": "+"} if isinstance(example, tuple) else {}
    text = isinstance(example[0] if many else example, str)
    return option | many | {"type": str if text else _number}


def _as_typed(value):
    """A constant's value as one would type it on the command line."""
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, tuple):
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
    method, _, rate = text.partition("=")
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
