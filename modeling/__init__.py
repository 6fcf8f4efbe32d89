"""Parameter-efficient fine-tuning methods, written by hand around transformers' classifiers."""

import boundary

boundary.before_libraries()

from .adapter import AdapterModel, BottleneckAdapter
from .base import PeftModel
from .baseline import PROBE, choose_pooling, fit_probe, fit_tfidf
from .fast import use_fast_attention
from .finetuned import load_finetuned
from .full import FullModel
from .head_only import HeadOnlyModel
from .loading import fresh_copy, load_encoder
from .lora import LoRALinear, LoRAModel
from .merging import adapted_layers, merge
from .methods import BASELINES, METHODS, Method
