"""The constants of finetuning.py as one checked object, with the command line's overrides."""

import argparse
import os
import shlex
from collections import namedtuple
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from boundary import BadInput
from modeling import Method
from modeling.methods import BASELINES, METHODS, hyperparameters_of
from modeling.pooling import POOLINGS
from records import FREE

from . import processes

Presets = namedtuple("Presets", "full base quick")  # the three values of a constant
NONE = ("None", "all", "own")  # what None is on the command line
TUNING = "-tuning"  # how the name of a folder ends that --tune writes
COMMAND = Path(__file__).parent.parent / "finetuning.py"


def _distinct(values):
    if len(set(values)) < len(values):
        raise ValueError("each may be there once")
    return values


def _folder_name(name):
    if not name.isprintable() or "/" in name or not name.strip(". ") or len(name.encode()) > 200:
        raise ValueError("it should be a name for a folder, up to 200 bytes")
    if name.endswith(TUNING):
        raise ValueError(f"{TUNING} is the end of what --tune writes")
    return name


def _contrast(text):
    pair = text.split(" - ")
    methods = [Method.parse(method, {}).text for method in pair] if len(pair) == 2 else []
    if len(set(methods)) < 2:
        raise ValueError("it should be two methods, such as 'lora - probe'")
    return " - ".join(methods)


LARGEST = 2**31 - 1  # larger ones overflow in the libraries
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Width = Annotated[int, Field(ge=1, lt=2**16)]  # no encoder is wider
Amount = Annotated[float, Field(ge=0, lt=3.4e38)]  # finite in float32
Positive = Annotated[float, Field(gt=0, lt=3.4e38)]
BOUNDED = {  # of `adapt`'s hints; what they mean, it checks itself
    int: Annotated[int, Field(gt=-(2**16), lt=2**16)],
    float: Annotated[float, Field(gt=-3.4e38, lt=3.4e38)],
}
Share = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Place = Annotated[Text, AfterValidator(os.path.expanduser)]  # ~ is the user's own folder
Contrast = Annotated[str, AfterValidator(_contrast)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
SOME = Field(min_length=1), AfterValidator(_distinct)


class Settings(BaseModel):
    """What finetuning.py was asked to do; a field for each of its constants."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    experiment: Annotated[str, AfterValidator(_folder_name)]
    model: Place
    dataset: Place
    text_column: Text
    label_column: Text
    group_column: Text | None
    labels: Count | None
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    test_examples: Count | None
    redraw_labels: bool
    max_tokens: Annotated[int, Field(ge=3, le=LARGEST)]
    truncation: Literal["left", "right"]
    pooling: Literal[POOLINGS]
    blocks: Whole | None
    store_states: bool
    seeds: Annotated[tuple[Seed, ...], *SOME]
    contrasts: Annotated[tuple[Contrast, ...], AfterValidator(_distinct)]
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)]
    epochs: Count
    head_epochs_factor: Count
    evaluations_per_epoch: Count
    patience: Count
    batch_size: Count
    micro_batch_tokens: Count | None
    learning_rates: dict[str, Positive]
    tuning_rates: Count
    weight_decay: Amount
    warmup: Share
    encoder_dropout: Share | None
    lora_rank: Width
    lora_alpha: Positive
    lora_dropout: Share
    lora_rslora: bool
    lora_targets: Annotated[tuple[str, ...], *SOME]
    adapter_bottleneck: Width
    gradient_clip: Positive
    split_seed: Whole
    parallel: Literal["runs", "data"]
    tensorboard: bool
    results: Place
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]  # last: it takes values of others

    preset: str  # whose values it has
    fresh: bool = False  # delete this experiment's results first
    tune: bool = False  # try learning rates and readings instead, on validation
    command: str = "python finetuning.py"  # what resumes it

    @field_validator("methods", mode="before")
    @classmethod
    def read_methods(cls, texts: Any, info: ValidationInfo) -> tuple[Method, ...]:
        """The entries of METHODS, each with the constants' values where it gives none."""
        if not isinstance(texts, tuple | list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("it should be methods as one types them, such as 'lora(rank=4)'")
        return _read_methods(texts, info.data)

    def constants(self) -> dict[str, Any]:
        """The constants by their lower-case names, as files hold them."""
        values = self.model_dump(mode="json", include=set(CONSTANTS))
        return values | {"methods": [method.text for method in self.methods]}

    def shared_constants(self) -> dict[str, Any]:
        """Those that the numbers of every run depend on; a method's own are in its record."""
        own = {_constant(name, k) for name in METHODS for k in hyperparameters_of(name)}
        return {k: v for k, v in self.constants().items() if k not in (*FREE, *own)}


OPTIONS = ("preset", "fresh", "tune", "command")
CONSTANTS = [name for name in Settings.model_fields if name not in OPTIONS]


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
    """What resumes, from this working folder, an experiment that had these arguments."""
    options = [argument for argument in arguments if argument != "--fresh"]
    return shlex.join([*processes.launcher(), os.path.relpath(COMMAND), *options])


def parse(constants: dict[str, Any], arguments: list[str]) -> Settings:
    """The settings of an experiment, from `constants` in upper case and the command line.

    The experiment's name chooses the preset; any other name takes "full" if CUDA is available and
    "quick" elsewhere. Raises `BadInput` for a value or an option that is not allowed.
    """
    constants = {name.lower(): constants[name] for name in constants if name.lower() in CONSTANTS}
    given = vars(_parser(constants).parse_args(arguments))
    del given["traceback"]  # `refuse` looks at it, also where nothing could be parsed
    here = "full" if torch.cuda.is_available() else "quick"
    experiment = given.get("experiment", _choose(constants["experiment"], here))
    preset = experiment if experiment in Presets._fields else here
    values = {name: _choose(value, preset) for name, value in constants.items()}
    if "learning_rates" in given:
        given["learning_rates"] = values["learning_rates"] | dict(given["learning_rates"])
    values |= given | {"experiment": experiment, "preset": preset}
    values["command"] = resume_command(arguments)
    values["fresh"] &= not processes.restarted()
    try:
        return Settings(**values)
    except ValidationError as error:
        raise BadInput(_in_words(error)) from None


def _in_words(error, name=None):
    """The first error in one line: the constant, its value, and what it should be."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadInput):  # it says all of this
        return str(cause)
    if name is None:
        constant, *entry = first["loc"]
        name = constant.upper() + "".join(f"[{part!r}]" for part in entry)
    words = first["msg"].removeprefix("Value error, ").replace("Input", "it")
    return f"{name} is {first['input']!r:.60}; {words[0].lower()}{words[1:]}"


def _read_methods(texts, values):
    constants = {}
    for name in (*METHODS, *BASELINES):
        # LORA_RANK is lora's rank; one without a constant has adapt's default
        defaults = hyperparameters_of(name)
        constants[name] = {k: values.get(_constant(name, k), v) for k, v in defaults.items()}
    for name, rate in values.get("learning_rates", {}).items():
        if name not in METHODS:
            choices = ", ".join(METHODS)
            raise BadInput(f"LEARNING_RATES has the unknown method {name!r}; choose from {choices}")
        constants[name]["learning_rate"] = rate
    methods = tuple(Method.parse(text, constants) for text in texts)
    for method in methods:
        for name in method.given:
            _check_given(method, name)
        if not method.is_baseline and method.learning_rate is None:
            raise BadInput(f"LEARNING_RATES has no rate for {method.name}; add one")
    for i, method in enumerate(methods):
        for other in methods[:i]:
            if (method.name, method.hyperparameters) == (other.name, other.hyperparameters):
                raise BadInput(
                    f"METHODS has {other.text!r} and {method.text!r}, which are the same; keep one"
                )
    return methods


def _check_given(method, name):
    """A variant's value must be one that its constant, or else `adapt`, could have."""
    if name == "learning_rate":
        kind = Positive
    elif field := Settings.model_fields.get(_constant(method.name, name)):
        kind = Annotated[field.annotation, field]
    else:
        hint = get_type_hints(METHODS[method.name].adapt).get(name, Any)
        kind = BOUNDED.get(hint, hint)
    try:
        TypeAdapter(kind).validate_python(method.hyperparameters[name], strict=True)
    except ValidationError as error:
        raise BadInput(_in_words(error, f"METHODS has {method.text!r}, whose {name}")) from None


def _constant(method, hyperparameter):
    """The constant with a hyperparameter's default: BLOCKS, or <METHOD>_<NAME>."""
    return hyperparameter if hyperparameter in CONSTANTS else f"{method}_{hyperparameter}"


def _choose(value, preset):
    return getattr(value, preset) if isinstance(value, Presets) else value


# ---------------------------------------------------------------------------- the command line


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise BadInput(f"{message}; see python finetuning.py --help")


def _parser(constants):
    parser = _Parser(
        allow_abbrev=False,
        description="Compare parameter-efficient fine-tuning methods on labelled texts. "
        "Every constant at the top of finetuning.py can be given here; its value there is shown.",
    )
    for name, value in constants.items():
        parser.add_argument("--" + name.replace("_", "-"), **_option(name, value))
    parser.add_argument("--fresh", action="store_true", help="delete this experiment's results")
    parser.add_argument("--tune", action="store_true", help="choose rates and, by probe, POOLING")
    parser.add_argument("--traceback", action="store_true", help="show where bad input was found")
    return parser


def _option(name, value):
    """How argparse should read one constant; pydantic makes numbers of the texts."""
    option = {"default": argparse.SUPPRESS, "help": str(value).replace("%", "%%")}
    kind = Settings.model_fields[name].annotation
    if kind is bool:
        return option | {"action": argparse.BooleanOptionalAction}
    if name == "learning_rates":
        return option | {"type": _rate, "nargs": "+", "metavar": "METHOD=RATE"}
    if get_origin(kind) is Literal:
        return option | {"metavar": "{" + ",".join(get_args(kind)) + "}"}
    if get_origin(kind) is tuple:
        option["nargs"] = "*"
    elif NoneType in get_args(kind):
        none = NONE[:1] if name.endswith("_column") else NONE  # "all" may be a column
        option["type"] = lambda text: None if text in none else text
    return option | {"metavar": "VALUE"}


def _rate(text):
    method, equals, rate = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form METHOD=RATE")
    return method, rate
