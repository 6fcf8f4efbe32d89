"""The methods by name: a new one is a file with a subclass of PeftModel, and a line here."""

from .adapter import AdapterModel
from .base import PeftModel
from .bitfit import BitFitModel
from .head_only import HeadOnlyModel
from .lora import LoRAModel
from .references import FullModel

METHODS: dict[str, type[PeftModel]] = {
    "head": HeadOnlyModel,
    "adapter": AdapterModel,
    "lora": LoRAModel,
    "bitfit": BitFitModel,
    "full": FullModel,
}


def method_of(model: PeftModel) -> str:
    """The name of a model's method."""
    return next(name for name, kind in METHODS.items() if type(model) is kind)
