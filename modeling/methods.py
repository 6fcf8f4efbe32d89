"""The methods by name, and a method as one types it: a name and its hyperparameters.

    lora                            the constants' values
    lora(rank=4)                    a variant: another rank, all else as the constants say
    lora(targets=('q', 'v'))        values are Python's literals; nothing is evaluated
    adapter(learning_rate=1e-3)     every method that trains has a learning rate
    probe(pooling='mean')           on other features than the methods beside it

A new method is a file with a subclass of `PeftModel`, and a line in `METHODS`.
"""

import ast
import inspect
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from transformers import PreTrainedModel

from boundary import BadInput

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
from .side import SideModel
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
    "side": SideModel,
    "bitfit": BitFitModel,
    "full": FullModel,
}
BASELINES = {"tfidf": {}, "probe": {"pooling": "first"}}  # fitted by scikit-learn, not trained


def _place(target):
    order = ("q", "k", "v", "o", "up", "down", "gate")
    return order.index(target) if target in order else len(order)


def method_of(model: PeftModel) -> str:
    """The name of a model's method."""
    return next(name for name, kind in METHODS.items() if type(model) is kind)


def hyperparameters_of(name: str) -> dict[str, Any]:
    """A method's hyperparameters with defaults: those of its `adapt`, and the learning rate."""
    if name in BASELINES:
        return dict(BASELINES[name])
    parameters = list(inspect.signature(METHODS[name].adapt).parameters.values())[1:]
    return {p.name: p.default for p in parameters} | {"learning_rate": METHODS[name].learning_rate}


@dataclass(frozen=True)
class Method:
    """A method with all of its hyperparameters, and which of them its text gives."""

    name: str
    hyperparameters: dict[str, Any]
    given: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, constants: dict[str, dict[str, Any]]) -> "Method":
        """Read `text`, such as "lora(rank=4)"; the rest has the values of `constants[name]`.

        Raises `BadInput` for what is no call with literals, and for an unknown method or
        hyperparameter, with the choices.
        """
        try:
            call = ast.parse(text.strip(), mode="eval").body
            name = call.func if isinstance(call, ast.Call) else call
            if not isinstance(name, ast.Name) or getattr(call, "args", ()):
                raise SyntaxError
            keywords = getattr(call, "keywords", ())
            given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
            if len(given) < len(keywords):
                raise SyntaxError  # one is given twice
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            expected = "a name, or a name and its hyperparameters such as lora(rank=4)"
            raise BadInput(f"the method {text!r} cannot be read; expected {expected}") from None
        if name.id not in (*METHODS, *BASELINES):
            choices = ", ".join((*METHODS, *BASELINES))
            raise BadInput(f"unknown method {name.id!r}; choose from {choices}")
        choices = hyperparameters_of(name.id)
        for hyperparameter in given:
            if hyperparameter not in choices:
                raise BadInput(
                    f"in {text!r} {name.id} has no hyperparameter "
                    f"{hyperparameter!r}; choose from {', '.join(choices) or 'none'}"
                )
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        order = tuple(choice for choice in choices if choice in given)
        values = constants.get(name.id, {}) | given
        if isinstance(values.get("targets"), tuple):  # their order means nothing
            values["targets"] = tuple(sorted(values["targets"], key=_place))
        return cls(name.id, values, order)

    def variant(self, **values: Any) -> "Method":
        """The same method with other values of some hyperparameters."""
        given = dict.fromkeys((*self.given, *values))
        return replace(self, hyperparameters=self.hyperparameters | values, given=tuple(given))

    @property
    def text(self) -> str:
        """As one types it: "lora", "lora(rank=4)"."""
        values = ", ".join(f"{name}={self.hyperparameters[name]!r}" for name in self.given)
        return f"{self.name}({values})" if values else self.name

    @property
    def file_name(self) -> str:
        """As a folder is called: "lora", "lora-rank=4", "lora-targets=q+v"."""
        parts = [self.name]
        for name in self.given:
            value = self.hyperparameters[name]
            values = value if isinstance(value, tuple) else (value,)
            parts.append(f"{name}={'+'.join(quote(str(value), safe='') for value in values)}")
        return "-".join(parts)

    @property
    def is_baseline(self) -> bool:
        """Whether it is fitted, not trained: no epochs, no learning rate, nothing random."""
        return self.name in BASELINES

    @property
    def learning_rate(self) -> float | None:
        """None for a baseline."""
        return self.hyperparameters.get("learning_rate")

    def build(self, pretrained: PreTrainedModel, pooling: str = "first") -> PeftModel:
        """Put the method around a pretrained classifier, which it freezes and changes."""
        choice = {k: v for k, v in self.hyperparameters.items() if k != "learning_rate"}
        return METHODS[self.name](pretrained, pooling, **choice)
