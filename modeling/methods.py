"""The methods by name, and a method as one types it: a name and its hyperparameters.

    lora                            the constants' values
    lora(rank=4)                    a variant: another rank, all else as the constants say
    lora(targets=('q', 'v'))        values are Python's literals; nothing is evaluated
    adapter(learning_rate=1e-3)     this learning rate; (1e-3, 3e-3): both are tried
    lora(labels=0.5)                trained on half of the labels
    probe(pooling='mean')           with its own pooling
    lora(rank=4)+tfidf              a combination: the mean of its parts' log-probabilities

A new method is a file with a subclass of `PeftModel`, and a line in `METHODS`.
"""

import inspect
import math
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from boundary import BadInput, reading
from method_text import in_file_name, read_text, text_of

from .adapter import AdapterModel
from .base import PeftModel
from .bitfit import BitFitModel
from .dora import DoRAModel
from .full import FullModel
from .head_only import HeadOnlyModel
from .ia3 import IA3Model
from .ln import LNModel
from .lora import LoRAModel
from .reft import ReFTModel
from .vera import VeRAModel

METHODS: dict[str, type[PeftModel]] = {
    "head": HeadOnlyModel,
    "adapter": AdapterModel,
    "lora": LoRAModel,
    "dora": DoRAModel,
    "vera": VeRAModel,
    "ia3": IA3Model,
    "ln": LNModel,
    "reft": ReFTModel,
    "bitfit": BitFitModel,
    "full": FullModel,
}
BASELINES = {"probe": {"pooling": None}, "tfidf": {}}  # by scikit-learn; None: as POOLING says
NOT_OF_ADAPT = ("learning_rate", "labels")  # of every method; `adapt` does not take them


def method_of(model: PeftModel) -> str:
    """The name of a model's method. Raises `BadInput` for a class that is not in `METHODS`."""
    for name, kind in METHODS.items():
        if type(model) is kind:
            return name
    raise BadInput(f"{type(model).__name__} has no name; add it to METHODS in modeling/methods.py")


def hyperparameters_of(name: str) -> dict[str, Any]:
    """A method's hyperparameters with defaults: `adapt`'s arguments, and the learning rate.

    Raises `BadInput` where a default is no literal: files and command lines hold only literals.
    """
    if name in BASELINES:
        return dict(BASELINES[name])
    method = METHODS[name]
    parameters = list(inspect.signature(method.adapt).parameters.values())[1:]
    for parameter in parameters:
        place = f"{parameter.name!r} of {method.__name__}.adapt"
        if parameter.name in NOT_OF_ADAPT:
            raise BadInput(f"{place}: every method can be given that; give it another name")
        if not _is_literal(parameter.default):
            kinds = "a number, a text, True, False, None, or a tuple of these"
            raise BadInput(f"{place} has no default that is {kinds}")
    if method.learning_rate is not None:
        _check_rates(method.learning_rate, f"the learning rate of {method.__name__}")
    return {p.name: p.default for p in parameters} | {"learning_rate": method.learning_rate}


@dataclass(frozen=True)
class Method:
    """A method with all of its hyperparameters, and the names of those that its text gives."""

    name: str
    hyperparameters: dict[str, Any]  # of a combination: a dictionary for each part, by its text
    given: tuple[str, ...] = ()
    parts: tuple["Method", ...] = ()  # of a combination

    @classmethod
    def parse(cls, text: str, constants: dict[str, dict[str, Any]]) -> "Method":
        """Read `text`, such as "lora(rank=4)"; `constants[name]` has all other values.

        Raises `BadInput` for a text that is no call with literals, and for an unknown method or
        hyperparameter, with the choices.
        """
        methods = [cls._from_call(name, given, text, constants) for name, given in read_text(text)]
        return methods[0] if len(methods) == 1 else cls._combination(methods)

    @classmethod
    def _from_call(cls, name, given, text, constants):
        if name not in (*METHODS, *BASELINES):
            choices = ", ".join((*METHODS, *BASELINES))
            raise BadInput(f"unknown method {name!r}; choose from {choices}")
        choices = (*hyperparameters_of(name), "labels")
        if unknown := [hyperparameter for hyperparameter in given if hyperparameter not in choices]:
            line = f"in {text!r} {name} has no hyperparameter {unknown[0]!r}"
            raise BadInput(f"{line}; choose from {', '.join(choices)}")
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        if "learning_rate" in given:
            _check_rates(given["learning_rate"], f"in {text!r} the learning rate")
        values = constants.get(name, {}) | given
        return cls(name, values, tuple(choice for choice in choices if choice in given))

    @classmethod
    def _combination(cls, methods):
        order = [*METHODS, *BASELINES]
        parts = tuple(sorted(methods, key=lambda each: (order.index(each.name), each.text)))
        hyperparameters = {part.text: part.hyperparameters for part in parts}
        if len(hyperparameters) < len(parts):
            raise BadInput(f"{'+'.join(part.text for part in parts)} has a method twice")
        return cls("+".join(part.name for part in parts), hyperparameters, parts=parts)

    @property
    def text(self) -> str:
        """The method as one types it: "lora", "lora(rank=4)", "lora(rank=4)+tfidf"."""
        if self.parts:
            return "+".join(part.text for part in self.parts)
        return text_of(self.name, {name: self.hyperparameters[name] for name in self.given})

    @property
    def file_name(self) -> str:
        """The name for folders: "lora-rank=4", "lora-targets=q+v", "lora-targets=q,v+tfidf".

        No two methods share a file name.
        """
        if self.parts:
            return "+".join(part.file_name.replace("+", ",") for part in self.parts)
        values = [f"{name}={in_file_name(self.hyperparameters[name])}" for name in self.given]
        return "-".join([self.name, *values])

    @property
    def is_baseline(self) -> bool:
        """Whether the method is fitted, not trained: no epochs, no learning rate, no randomness."""
        return self.name in BASELINES

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The candidate learning rates; none for a baseline or a combination."""
        rates = self.hyperparameters.get("learning_rate") or ()
        return rates if isinstance(rates, tuple) else (rates,)

    @property
    def labels(self) -> float:
        """The share of the training sample that it is given: lora(labels=0.5)."""
        return self.hyperparameters.get("labels", 1.0)

    def build(self, pretrained: PreTrainedModel, pooling: str = "first") -> PeftModel:
        """Put the method around a pretrained classifier, which it freezes and changes.

        Raises every error of `adapt` as `BadInput`.
        """
        values = {k: v for k, v in self.hyperparameters.items() if k not in NOT_OF_ADAPT}
        with reading("the model", "--traceback shows where", f"adapted by {self.text}"):
            return METHODS[self.name](pretrained, pooling, **values)


def _is_literal(value):
    """Whether a value is a number, a text, True, False, None, or a tuple of these."""
    if isinstance(value, tuple):
        return all(map(_is_literal, value))
    return type(value) in (bool, int, float, str, type(None))


def _check_rates(rates, subject):
    candidates = rates if isinstance(rates, tuple) else (rates,)
    valid = [r for r in candidates if type(r) in (int, float) and 0 < r < math.inf]
    if not candidates or len(valid) < len(candidates) or len(set(valid)) < len(valid):
        expected = "expected a number above 0, or a tuple of different ones"
        raise BadInput(f"{subject} is {rates!r:.60}; {expected}")
