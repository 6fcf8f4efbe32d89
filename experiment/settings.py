"""The constants of finetuning.py as one checked object, with the command line's overrides."""

import argparse
import contextlib
import os
import shlex
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_type_hints

import torch

from boundary import BadInput
from modeling import Method
from modeling.methods import METHODS, hyperparameters_of
from modeling.pooling import POOLINGS

from . import processes

Presets = namedtuple("Presets", "full base quick")  # the three values of a constant


class Rule(NamedTuple):
    """What a constant must be, in words and as a test."""

    expected: str
    holds: Callable[[Any], bool]


def is_whole(value, least: int, below: int) -> bool:
    """Whether a value is an integer in a range."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < below


def is_number(value) -> bool:
    """Whether a value is a finite number, in float32 too."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= torch.finfo(torch.float32).max


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


def whole(least: int, kind=int, bits: int = 31):
    """An integer from `least`; larger ones than 2**31 overflow in the libraries."""
    none = kind is not int
    expected = f"a whole number, {least} or more and below 2**{bits}{', or None' if none else ''}"
    return Annotated[
        kind, Rule(expected, lambda v: (none and v is None) or is_whole(v, least, 2**bits))
    ]


Count = whole(1)
CountOrAll = whole(1, int | None)
Width = whole(1, bits=16)  # no encoder is wider
Share = Annotated[float, Rule("a number from 0 to below 1", lambda v: is_number(v) and 0 <= v < 1)]
POSITIVE = Rule("a number above 0 and below 3.4e38", lambda v: is_number(v) and v > 0)
Positive = Annotated[float, POSITIVE]
Text = Annotated[str, Rule("a text", lambda v: isinstance(v, str) and bool(v.strip()))]
Switch = Annotated[bool, Rule("True or False", lambda v: isinstance(v, bool))]


@dataclass(frozen=True)
class Settings:
    """What finetuning.py was asked to do; a field for each of its constants."""

    experiment: Annotated[str, Rule("a name for a folder, up to 200 bytes", is_folder_name)]
    model: Text
    dataset: Text
    text_column: Text
    label_column: Text
    train_examples: CountOrAll
    validation_examples: CountOrAll
    test_examples: CountOrAll
    max_tokens: whole(3)
    truncation: Annotated[str, Rule("'left' or 'right'", lambda v: v in ("left", "right"))]
    blocks: whole(0, int | None)
    pooling: Annotated[str, Rule(f"one of {', '.join(POOLINGS)}", lambda v: v in POOLINGS)]
    store_states: Switch
    methods: Annotated[
        tuple[Method, ...], Rule("a choice of methods, each once", lambda v: is_choice(v, str))
    ]
    seeds: Annotated[
        tuple[int, ...],
        Rule(
            "whole numbers, 0 or more, each once, below 2**63",
            lambda v: is_choice(v, int) and all(is_whole(seed, 0, 2**63) for seed in v),
        ),
    ]
    epochs: Count
    evaluations_per_epoch: Count
    patience: Count
    batch_size: Count
    micro_batch_tokens: CountOrAll
    learning_rates: Annotated[
        dict[str, float], Rule("a rate for each method, by its name", lambda v: isinstance(v, dict))
    ]
    tuning_rates: Count
    weight_decay: Annotated[float, Rule("a number, 0 or more", lambda v: is_number(v) and v >= 0)]
    warmup: Share
    encoder_dropout: Annotated[
        float | None,
        Rule("a share below 1, or None", lambda v: v is None or (is_number(v) and 0 <= v < 1)),
    ]
    lora_rank: Width
    lora_alpha: Positive
    lora_dropout: Share
    lora_rslora: Switch
    lora_targets: Annotated[
        tuple[str, ...], Rule("a choice of matrices, each once", lambda v: is_choice(v, str))
    ]
    adapter_bottleneck: Width
    gradient_clip: Positive
    split_seed: whole(0)
    parallel: Annotated[str, Rule("'runs' or 'data'", lambda v: v in ("runs", "data"))]
    tensorboard: Switch
    results: Text
    fresh: bool = False  # delete this experiment's results first
    tune: bool = False  # try learning rates instead, on validation
    command: str = "python finetuning.py"  # what resumes it

    def constants(self) -> dict[str, Any]:
        """The constants by their lower-case names, as files hold them."""
        values = {name: getattr(self, name) for name in RULES}
        return values | {"methods": [method.text for method in self.methods]}


RULES = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Settings, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}


def tokens_at_once(settings: Settings, device: torch.device) -> int:
    """How many tokens, padding included, are computed together.

    A GPU takes whole batches. A CPU does best where a block's attention scores, tokens x heads x
    T, stay in its caches; without gradients less else is held.
    """
    if settings.micro_batch_tokens is not None:
        return settings.micro_batch_tokens
    if device.type != "cpu":
        return settings.batch_size * settings.max_tokens
    most = 2**20 // settings.max_tokens
    return most if torch.is_grad_enabled() else max(most, 4096)


def resume_command(arguments: list[str]) -> str:
    """What resumes an experiment that was started with these arguments."""
    options = [argument for argument in arguments if argument != "--fresh"]
    return shlex.join([*processes.launcher(), "finetuning.py", *options])


def parse(constants: dict[str, Any], arguments: list[str]) -> Settings:
    """The settings of an experiment, from `constants` in upper case and the command line.

    The experiment's name chooses the preset; any other name takes "full" where CUDA is there and
    "quick" elsewhere. Raises `BadInput` for a value or an option that cannot be.
    """
    constants = {name.upper(): constants[name.upper()] for name in RULES}
    parser = _Parser(
        allow_abbrev=False,
        description="Compare parameter-efficient fine-tuning methods on labelled reviews. "
        "Every constant at the top of finetuning.py can be given here; its value there is shown.",
    )
    for name, value in constants.items():
        parser.add_argument("--" + name.lower().replace("_", "-"), **_option(name, value))
    parser.add_argument("--fresh", action="store_true", help="delete this experiment's results")
    parser.add_argument("--tune", action="store_true", help="try learning rates, on validation")
    parser.add_argument("--traceback", action="store_true", help="show where bad input was found")
    given = vars(parser.parse_args(arguments))
    del given["traceback"]  # `refuse` looks at it, also where nothing could be parsed
    here = "full" if torch.cuda.is_available() else "quick"
    experiment = given.get("experiment", _choose(constants["EXPERIMENT"], here))
    preset = experiment if experiment in Presets._fields else here
    values = {name.lower(): _choose(value, preset) for name, value in constants.items()}
    rates = dict(given.pop("learning_rates", ()))
    values |= given | {"experiment": experiment}
    if isinstance(values["learning_rates"], dict):  # else `_check` refuses it
        values["learning_rates"] = values["learning_rates"] | rates
    for name, rule in RULES.items():
        _check(name.upper(), values[name], rule)
    values |= {name: os.path.expanduser(values[name]) for name in ("model", "dataset", "results")}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    values["command"] = resume_command(arguments)
    values["fresh"] &= not processes.restarted()
    if values["tune"] and "full" not in {text.partition("(")[0] for text in values["methods"]}:
        values["methods"] += ("full",)  # what the others are compared with is tuned as they are
    return Settings(**values | {"methods": _methods(values)})


def _methods(values: dict[str, Any]) -> tuple[Method, ...]:
    """The entries of METHODS, read, each with the constants' values where it gives none."""
    constants = {}
    for name in METHODS:  # LORA_RANK is lora's rank; one without a constant has adapt's default
        defaults = hyperparameters_of(name)
        constants[name] = {k: values.get(_constant(name, k), v) for k, v in defaults.items()}
    for name, rate in values["learning_rates"].items():
        if name not in METHODS:
            choices = ", ".join(METHODS)
            raise BadInput(f"LEARNING_RATES has the unknown method {name!r}; choose from {choices}")
        _check(f"LEARNING_RATES[{name!r}]", rate, POSITIVE)
        constants[name]["learning_rate"] = rate
    methods = tuple(Method.parse(text, constants) for text in values["methods"])
    for method in methods:
        for name in method.given:
            rate = name == "learning_rate"
            rule = POSITIVE if rate else RULES.get(_constant(method.name, name))
            if rule:
                what = f"METHODS has {method.text!r}, whose {name}"
                _check(what, method.hyperparameters[name], rule)
        if not method.is_baseline and method.learning_rate is None:
            raise BadInput(f"LEARNING_RATES has no rate for {method.name}; add one")
    for i, method in enumerate(methods):
        for other in methods[:i]:
            same = method.name, method.hyperparameters
            if same == (other.name, other.hyperparameters):
                raise BadInput(
                    f"METHODS has {other.text!r} and {method.text!r}, which are the same; keep one"
                )
    return methods


def _constant(method, hyperparameter):
    """The constant with a hyperparameter's default: BLOCKS is every method's, LORA_RANK lora's."""
    return hyperparameter if hyperparameter in RULES else f"{method}_{hyperparameter}"


def _check(name, value, rule):
    if not rule.holds(value):
        raise BadInput(f"{name} is {value!r}; expected {rule.expected}")


def _choose(value, preset):
    return getattr(value, preset) if isinstance(value, Presets) else value


def _option(name, value):
    """How argparse should read one constant."""
    example = _choose(value, "quick")
    texts = [_as_typed(v) for v in (value if isinstance(value, Presets) else [value])]
    named = zip(Presets._fields, texts, strict=False)
    now = texts[0] if len(texts) == 1 else "; ".join(f"{name}: {text}" for name, text in named)
    option = {"default": argparse.SUPPRESS, "help": now.replace("%", "%%")}
    if isinstance(example, bool):
        return option | {"action": argparse.BooleanOptionalAction}
    option["metavar"] = "VALUE"
    if name.endswith("_EXAMPLES"):
        return option | {"type": _number_or("all")}
    if name == "BLOCKS":
        return option | {"type": _number_or("all")}
    if name == "ENCODER_DROPOUT":
        return option | {"type": _number_or("own"), "help": f"{now}; or own, the model's"}
    if name == "MICRO_BATCH_TOKENS":
        return option | {"type": _number_or("auto"), "help": "auto, or a number of tokens"}
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
        raise BadInput(f"{message}; see python finetuning.py --help")
