"""Parameter-efficient fine-tuning methods, written by hand around transformers' classifiers."""

from .adapter import AdapterModel, BottleneckAdapter
from .base import PeftModel, load_config, load_pretrained
from .head_only import HeadOnlyModel
from .lora import LoRALinear, LoRAModel
from .references import FullModel

METHODS: dict[str, type[PeftModel]] = {
    "head": HeadOnlyModel,
    "adapter": AdapterModel,
    "lora": LoRAModel,
    "full": FullModel,
}

__all__ = [
    "METHODS",
    "AdapterModel",
    "BottleneckAdapter",
    "FullModel",
    "HeadOnlyModel",
    "LoRALinear",
    "LoRAModel",
    "PeftModel",
    "load_config",
    "load_pretrained",
]
