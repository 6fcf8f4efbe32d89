"""The constants of finetuning.py as one checked object."""

import os
from collections import namedtuple
from typing import Annotated, Any, Literal, get_type_hints

import pydantic
import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator

from boundary import BadInput
from evaluation.metrics import PLANNABLE
from modeling import Method, PeftModel
from modeling.inference import tokens_at_once
from modeling.methods import BASELINES, METHODS, hyperparameters_of

# Constants of how much data is used. One's own data is used whole, whatever the preset.
LIMITS = ("labels", "test_examples", "folds", "seeds")
# Constants that change no finished run's numbers, or that its digests and its method represent.
FREE = ("experiment", "preset", "methods", "seeds", "contrasts", "metric", "equivalence_margin")
FREE += ("learning_rates", "cache", "micro_batch_tokens", "results")
FREE += ("model", "dataset", "text_column", "label_column", "group_column")


class Presets(namedtuple("Presets", "full quick own")):
    """The three values of a constant, one for each preset."""

    def __str__(self):
        return ", ".join(f"{name}: {value}" for name, value in self._asdict().items())


def _distinct(values):
    if len(set(values)) < len(values):
        raise ValueError("each may be there once")
    return values


def _folder_name(name):
    if not name.isprintable() or "/" in name or not name.strip(". ") or len(name.encode()) > 200:
        raise ValueError("it should be a name for a folder, up to 200 bytes")
    return name


def _contrast(text):
    pair = text.split(" - ")
    methods = [Method.parse(method, {}).text for method in pair] if len(pair) == 2 else []
    if len(set(methods)) < 2:
        raise ValueError("it should be two methods, such as 'lora - probe'")
    return " - ".join(methods)


Whole = Annotated[int, Field(ge=0, lt=2**31)]  # larger numbers overflow in the libraries
Count = Annotated[int, Field(ge=1, lt=2**31)]
Amount = Annotated[float, Field(ge=0, lt=3.4e38)]  # finite in float32
Positive = Annotated[float, Field(gt=0, lt=3.4e38)]
Share = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Place = Annotated[Text, AfterValidator(os.path.expanduser)]  # ~ is the user's own folder
Contrast = Annotated[str, AfterValidator(_contrast)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
SOME = Field(min_length=1), AfterValidator(_distinct)
Rates = Annotated[
    tuple[Positive, ...],
    *SOME,
    BeforeValidator(lambda rates: rates if isinstance(rates, tuple) else (rates,)),
]


class Settings(BaseModel, frozen=True, allow_inf_nan=False, extra="forbid"):
    """The settings of an experiment: a field for each constant of finetuning.py, and options."""

    experiment: Annotated[str, AfterValidator(_folder_name)]
    preset: Literal[Presets._fields]
    model: Place
    dataset: Place
    text_column: Text | None
    label_column: Text | None
    group_column: Text | None
    labels: Count | None
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    test_examples: Count | None
    folds: Annotated[int, Field(ge=2, le=100)] | None
    split_seed: Whole
    max_tokens: Annotated[int, Field(ge=3, lt=2**31)]
    truncation: Literal["left", "right"]
    pooling: Literal["auto", "first", "mean", "layers"]
    blocks: Whole | None
    cache: bool
    seeds: Annotated[tuple[Seed, ...], *SOME]
    contrasts: Annotated[tuple[Contrast, ...], AfterValidator(_distinct)]
    metric: Literal[tuple(PLANNABLE)]
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)]
    epochs: Count
    head_epochs_factor: Count
    evaluations_per_epoch: Count
    patience: Count
    batch_size: Count
    micro_batch_tokens: Count | None
    learning_rates: dict[str, Rates]
    weight_decay: Amount
    warmup: Share
    gradient_clip: Positive
    encoder_dropout: Share | None
    lora_rank: Count
    lora_alpha: Positive
    lora_dropout: Share
    lora_rslora: bool
    lora_targets: Annotated[tuple[str, ...], *SOME]
    adapter_bottleneck: Count
    results: Place
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]  # last: it reads the other fields

    fresh: bool = False  # set this experiment's results aside first
    final: bool = False  # train one method on all texts, to classify new ones
    is_own: bool = False  # the data set is neither a task nor a preset's
    command: str = "python finetuning.py"  # the command that resumes the experiment

    @field_validator("methods", mode="before")
    @classmethod
    def read_methods(cls, texts: Any, info: pydantic.ValidationInfo) -> tuple[Method, ...]:
        """The methods that METHODS names; constants give the values that an entry leaves out."""
        if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                "it should be several texts, or one with a comma after it, such as ('lora',)"
            )
        methods = tuple(_read_method(text, info.data) for text in texts)
        _distinct([method.text for method in methods])
        return methods

    def most_tokens(self, device: torch.device, training: bool) -> int:
        """How many tokens, padding included, are computed at once."""
        return self.micro_batch_tokens or tokens_at_once(self.max_tokens, device, training)

    def for_model(self, model: PeftModel) -> "Settings":
        """The settings, with more epochs for a head alone, so that it converges as a probe does."""
        factor = self.head_epochs_factor if model.trains_head_alone else 1
        return self.model_copy(update={"epochs": self.epochs * factor})

    def constants(self) -> dict[str, Any]:
        """The constants by their lower-case names, as JSON files hold them."""
        values = self.model_dump(mode="json", include=set(CONSTANTS))
        return values | {"methods": [method.text for method in self.methods]}

    def shared_constants(self) -> dict[str, Any]:
        """The constants that every run depends on, in upper case; no method's hyperparameters."""
        of_methods = {_constant(name, k) for name in METHODS for k in hyperparameters_of(name)}
        constants = self.constants().items()
        return {k.upper(): v for k, v in constants if k not in (*FREE, *of_methods)}


OPTIONS = ("fresh", "final", "is_own", "command")
CONSTANTS = [name for name in Settings.model_fields if name not in OPTIONS]


def in_words(error: pydantic.ValidationError, name: str = "", options: Any = ()) -> str:
    """The first error in one line: the constant or the option, its value, what it should be."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadInput):  # it says all of this
        return str(cause)
    if not name:
        constant, *entry = first["loc"]
        option = f"--{constant.replace('_', '-')}"
        name = option if constant in options else constant.upper()
        name += "".join(f"[{part!r}]" for part in entry)
    if first["type"] == "missing":
        return f"finetuning.py has no {name}; put it back among the constants"
    if first["type"] == "extra_forbidden":
        return f"finetuning.py sets {name}: no constant of this name is used"
    words = first["msg"].removeprefix("Value error, ").replace("Input", "it")
    return f"{name} is {first['input']!r:.60}; {words[0].lower()}{words[1:]}"


def _read_method(text, values):
    """The method of a text; constants such as LORA_RANK give the values that it leaves out."""
    constants = {}
    for name in (*METHODS, *BASELINES):
        defaults = hyperparameters_of(name)  # a constant replaces the default
        constants[name] = {k: values.get(_constant(name, k), v) for k, v in defaults.items()}
    for name, rates in values.get("learning_rates", {}).items():
        if name not in METHODS:
            choices = ", ".join(METHODS)
            raise BadInput(f"LEARNING_RATES has the unknown method {name!r}; choose from {choices}")
        constants[name]["learning_rate"] = rates
    method = Method.parse(text, constants)  # `adapt` refuses other mistakes: see `prepare`
    for part in method.parts or (method,):
        _check_types(part)
        if not part.is_baseline and not part.learning_rates:
            raise BadInput(f"LEARNING_RATES has no rate for {part.name}; add one")
    return method


def _check_types(method):
    """Check that a variant's values have the types of `adapt`, which checks the values itself."""
    types = {} if method.is_baseline else get_type_hints(METHODS[method.name].adapt)
    types["labels"] = Annotated[float, Field(gt=0, le=1)]
    for name in filter(types.get, method.given):
        try:
            value = method.hyperparameters[name]
            pydantic.TypeAdapter(types[name]).validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            raise BadInput(in_words(error, f"in {method.text!r} {name}")) from None


def _constant(method, hyperparameter):
    """The constant of a hyperparameter, if there is one: BLOCKS, or <METHOD>_<NAME>."""
    return "blocks" if hyperparameter == "blocks" else f"{method}_{hyperparameter}"
