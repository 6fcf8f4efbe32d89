"""Parameter-efficient fine-tuning methods, written by hand around transformers' classifiers."""

from .adapter import AdapterModel, BottleneckAdapter
from .attention import use_plain_attention
from .bag_of_words import TFIDF, fit_bag_of_words
from .base import PeftModel, load_config, load_pretrained, max_positions
from .bitfit import BitFitModel
from .changes import changes
from .checkpoint import save_checkpoint
from .finetuned import Finetuned, load_finetuned, load_peft
from .head_only import HeadOnlyModel
from .lora import LoRALinear, LoRAModel
from .methods import METHODS
from .references import FullModel

__all__ = [
    "METHODS",
    "TFIDF",
    "AdapterModel",
    "BitFitModel",
    "BottleneckAdapter",
    "Finetuned",
    "FullModel",
    "HeadOnlyModel",
    "LoRALinear",
    "LoRAModel",
    "PeftModel",
    "changes",
    "fit_bag_of_words",
    "load_config",
    "load_finetuned",
    "load_peft",
    "load_pretrained",
    "max_positions",
    "save_checkpoint",
    "use_plain_attention",
]
