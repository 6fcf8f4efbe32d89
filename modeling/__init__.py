"""Parameter-efficient fine-tuning methods, written by hand around transformers' classifiers."""

from .adapter import AdapterModel, BottleneckAdapter
from .base import PeftModel
from .baseline import (
    PROBE,
    TFIDF,
    cross_validated_loss,
    fit_bag_of_words,
    fit_probe,
    log_probabilities,
)
from .bitfit import BitFitModel
from .fast import use_fast_attention
from .finetuned import Finetuned, load_finetuned, load_peft, save_checkpoint
from .full import FullModel
from .head_only import HeadOnlyModel
from .loading import fingerprint, load_config, load_pretrained, load_tokenizer
from .lora import LoRALinear, LoRAModel
from .merging import adapted_layers, merge
from .methods import BASELINES, METHODS, Method
