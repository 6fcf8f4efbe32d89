"""Config, tokenizer and weights of a pretrained classifier, from the hub or a folder, checked.

One load serves many models: `fresh_copy` is the same as loading again under torch's current seed,
and the digest says whether two encoders compute the same.
"""

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from boundary import BadInput, expanded, reading
from data_utils import ENCODERS, encoder_folder

from .architectures import architecture_of

NO_COMPUTATION = (  # fields of a config that change no number of the encoder's output
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "id2label", "label2id"),
    *("problem_type", "transformers_version", "use_cache", "initializer_range"),
    "gradient_checkpointing",
)


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained classifier as its files have it."""

    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    pretrained: PreTrainedModel

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides the encoder's output for a text.

        It covers the config without names, labels and dropout; the tokenizer's vocabulary and
        rules; and all weights from the files, a head's or a pooler's too. It leaves out a new head
        and the number of tokens at which texts are truncated.
        """
        fields = {
            name: value
            for name, value in self.config.to_diff_dict().items()
            if name not in NO_COMPUTATION and "drop" not in name
        }
        rules = json.loads(self.tokenizer.backend_tokenizer.to_str())
        del rules["truncation"], rules["padding"]  # of the tokenizer's last call
        digest = hashlib.sha256(json.dumps([fields, rules], sort_keys=True, default=str).encode())
        for name, tensor in self.pretrained.state_dict().items():
            if name not in self.pretrained.new_tensors:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()


def load_encoder(
    name: str,
    label_names: list[str],
    max_tokens: int,
    truncation: str = "left",
    encoder_dropout: float | None = None,
) -> Encoder:
    """The encoder that is called `name`: one of `ENCODERS`, a hub name or a folder.

    Its head is for these labels, and random where the files have none: seed torch first. Texts of
    more than `max_tokens` lose tokens on the side `truncation`, "left" (the beginning) or "right".
    `encoder_dropout` replaces the dropout rates inside the encoder; None keeps the model's own. The
    head's rate stays as it is, but for MPNet, whose head takes the encoder's rate.

    Raises `BadInput` for more tokens than the model has positions, where a part is missing or two
    parts do not belong together, and for weights that are not finite.
    """
    source = (encoder_folder(name) if name in ENCODERS else expanded(name)).as_posix()  # owner/name
    _check_folder(source)
    with _loading(source):
        config = _config(source, label_names, encoder_dropout)
        most = config.max_position_embeddings - architecture_of(config).reserved_positions
        if max_tokens > most:
            line = f"MAX_TOKENS is {max_tokens}, but {source} has {most} positions"
            raise BadInput(f"{line}; set it to {most} or less")
        sides = {"padding_side": "right", "truncation_side": truncation}
        tokenizer = AutoTokenizer.from_pretrained(
            source, model_max_length=max_tokens, trust_remote_code=False, **sides
        )
        _fit_together(source, config, tokenizer)
        return Encoder(config, tokenizer, _pretrained(source, config))


def _check_folder(source):
    """Raise `BadInput` for a path without an encoder, before transformers calls it damaged."""
    if os.path.isfile(source):
        raise BadInput(f"MODEL {source} is a file; give the folder that it is in")
    has_adapter = os.path.exists(f"{source}/adapter_config.json")
    if os.path.isdir(source) and (has_adapter or not os.path.exists(f"{source}/config.json")):
        kind = "has no config.json; give the folder that has it"
        if os.path.exists(f"{source}/checkpoint.json"):
            kind = "is a classifier that this package trained; give the encoder that it is of"
        elif has_adapter:  # with peft installed, transformers would put it into the encoder
            kind = "has an adapter; give the encoder without it"
        raise BadInput(f"MODEL {source} {kind}")
    is_path = os.path.isabs(source) or source.startswith((".", "~"))
    if is_path and not os.path.isdir(source):
        raise BadInput(f"MODEL {source} does not exist; expected a folder or a hub name")


def _config(source, label_names, dropout):
    labels = dict(enumerate(map(str, label_names)))
    numbers = {label: i for i, label in labels.items()}
    config = AutoConfig.from_pretrained(
        source, id2label=labels, label2id=numbers, trust_remote_code=False
    )
    row = architecture_of(config)
    if dropout is not None:
        if row.head_dropout and getattr(config, row.head_dropout, None) is None:
            # Such a head takes the encoder's rate: give it the rate that it would have had.
            setattr(config, row.head_dropout, getattr(config, row.encoder_dropouts[0]))
        for rate in row.encoder_dropouts:
            setattr(config, rate, dropout)
    return config


def _fit_together(source, config, tokenizer):
    """Check that the tokenizer is the model's; it gets a padding token where it has none.

    A decoder's config gets it too: transformers' own classifier finds a text's end by it. RoBERTa
    counts positions from its config's padding token on, so that one stays, whichever pads.
    """
    ids = tokenizer.get_vocab().values()
    # Where files are absent, transformers makes a tokenizer of special tokens and no others.
    if not tokenizer.is_fast or len(ids) <= len(tokenizer.all_special_ids):
        raise BadInput(f"{source} has no tokenizer.json; copy it there or download it again")
    if max(ids) >= config.vocab_size:
        sizes = f"{max(ids) + 1:,} tokens, but the model has {config.vocab_size:,} embeddings"
        raise BadInput(f"the tokenizer of {source} has {sizes}: they do not belong together")
    if tokenizer.pad_token_id is None:  # decoders often have none; the mask hides it anyway
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if not architecture_of(config).reserved_positions:
        config.pad_token_id = tokenizer.pad_token_id


def _pretrained(source, config):
    """The classifier in float32; its `new_tensors` are the tensors that the files lack."""
    pretrained, report = AutoModelForSequenceClassification.from_pretrained(
        source,
        config=config,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # they are reported, and refused below
        output_loading_info=True,
        trust_remote_code=False,
    )
    row = architecture_of(config)
    blocks = row.blocks.removeprefix(f"{pretrained.base_model_prefix}.")
    wrong = {tensor for tensor, _, _ in report["mismatched_keys"]}
    wrong |= {tensor for tensor in report["missing_keys"] if not row.in_head(tensor)}
    wrong |= {tensor for tensor in report["unexpected_keys"] if f".{blocks}." in f".{tensor}"}
    if wrong:
        labels = f"a model of its shape with {config.num_labels} labels"
        line = f"the weights of {source} are not those of {labels}: see {min(wrong)}"
        has_head = all(map(row.in_head, wrong))
        remedy = f"; choose an encoder without a head, or with {config.num_labels} labels"
        raise BadInput(line + remedy * has_head)
    for tensor, values in pretrained.named_parameters():
        if not values.sum(dtype=torch.float64).isfinite():
            raise BadInput(f"{tensor} in the weights of {source} is not finite")
    pretrained.new_tensors = set(report["missing_keys"])  # of the head: random
    return pretrained


def fresh_copy(pretrained: PreTrainedModel) -> PreTrainedModel:
    """A copy of an `Encoder`'s classifier, with a new head where the files have none.

    The head is the one that loading again under torch's current seed would make: transformers
    initialises the modules that are not marked as initialised, in their order.
    """
    fresh, new = copy.deepcopy(pretrained), pretrained.new_tensors
    for path, module in fresh.named_modules():
        module._is_hf_initialized = not any(f".{name}".startswith(f".{path}") for name in new)
    for name, parameter in fresh.named_parameters():
        parameter._is_hf_initialized = name not in new
    fresh.initialize_weights()
    return fresh


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Within it, transformers prints nothing: a new head is expected. Raises `BadInput`."""
    remedy = (
        "copy or download it again"
        if os.path.isdir(name)  # False for a name that is too long
        else "set MODEL to a local folder, or to an encoder that needs no download: --model minilm"
    )
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with reading(f"MODEL {name}", remedy):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
