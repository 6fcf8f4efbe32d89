"""Config, tokenizer and weights of a pretrained classifier, from the hub or a folder, checked."""

import hashlib
import pickle
import textwrap
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from .architectures import architecture_of


def load_config(
    name: str, label_names: list[str], encoder_dropout: float | None = None
) -> PretrainedConfig:
    """The config of a pretrained encoder, for a head with these labels.

    `name` is a hub name or a folder. `encoder_dropout` replaces the dropout rates inside the
    encoder, and leaves the head's as it is; None keeps the model's own. Raises `ValueError` for
    an unknown family and `OSError` where the file cannot be had.
    """
    labels = {i: str(label) for i, label in enumerate(label_names)}
    numbers = {label: i for i, label in labels.items()}
    try:
        config = AutoConfig.from_pretrained(name, id2label=labels, label2id=numbers)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise _cannot_load("model", name, error) from None
    architecture = architecture_of(config)
    if encoder_dropout is not None:
        if architecture.head_dropout and getattr(config, architecture.head_dropout) is None:
            # BERT's head falls back on the encoder's rate: keep the one it would have had.
            own = getattr(config, architecture.encoder_dropouts[0])
            setattr(config, architecture.head_dropout, own)
        for rate in architecture.encoder_dropouts:
            setattr(config, rate, encoder_dropout)
    return config


def load_tokenizer(
    name: str, config: PretrainedConfig, max_tokens: int, truncation: str = "left"
) -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained encoder: pads on the right, truncates to `max_tokens`.

    `truncation` is the side on which longer texts lose tokens, "left" (the beginning) or "right".
    Its padding token's id goes into `config`, which decoders need to be told. Raises `ValueError`
    for a tokenizer of another model or more tokens than the model has positions, and `OSError`
    where the files cannot be had.
    """
    if truncation not in ("left", "right"):
        raise ValueError(f"truncation is {truncation!r}; choose from left, right")
    if max_tokens > max_positions(config):
        raise ValueError(
            f"MAX_TOKENS is {max_tokens}, but {name} has {max_positions(config)} positions; "
            f"set it to {max_positions(config)} or less"
        )
    sides = {"padding_side": "right", "truncation_side": truncation}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, model_max_length=max_tokens, **sides)
    except (OSError, ValueError) as error:
        raise _cannot_load("tokenizer of the model", name, error) from None
    ids = tokenizer.get_vocab().values()
    if len(ids) <= len(tokenizer.all_special_ids):  # what transformers makes where files are absent
        raise OSError(f"the model {name} has no tokenizer files; copy them there or download again")
    if max(ids) >= config.vocab_size:
        raise ValueError(
            f"the tokenizer of {name} has {max(ids) + 1:,} tokens, but the model has "
            f"{config.vocab_size:,} embeddings: they do not belong together"
        )
    if tokenizer.pad_token is None:  # decoders often have none; the mask hides it anyway
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def load_pretrained(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """The pretrained classifier. Its head is random where the files have none: seed torch first.

    Raises `OSError` where the weights cannot be had, and `ValueError` where they are not those of
    the config's model: a tensor of the encoder missing, one of another shape, or not finite.
    """
    with _quiet():  # that the head is new is what we ask for, not news
        try:
            pretrained, found = AutoModelForSequenceClassification.from_pretrained(
                name,
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are reported, and refused below
                output_loading_info=True,
            )
        # PyTorch raises RuntimeError for damaged files, and the pickle's where one would run code.
        except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError) as error:
            raise _cannot_load("weights of", name, error) from None
    _check_weights(name, pretrained, found)
    return pretrained


def _check_weights(name, pretrained, found):
    """`ValueError` unless what transformers `found` in the files is the config's whole encoder."""
    in_head, labels = architecture_of(pretrained.config).in_head, pretrained.config.num_labels
    for tensor, stored, expected in sorted(found["mismatched_keys"]):
        if in_head(tensor) and stored[0] != expected[0] == labels:
            raise ValueError(
                f"the weights of {name} have a head for {stored[0]} labels, and there are "
                f"{labels}; choose the model that it was trained from"
            )
        raise ValueError(
            f"{tensor} in the weights of {name} has shape {tuple(stored)}, its config expects "
            f"{tuple(expected)}; download both again"
        )
    if missing := sorted(key for key in found["missing_keys"] if not in_head(key)):
        raise ValueError(
            f"the weights of {name} lack {len(missing)} tensors of its config's model, such as "
            f"{missing[0]}; download both again"
        )
    for tensor, values in pretrained.named_parameters():
        if not values.sum(dtype=torch.float64).isfinite():
            raise ValueError(f"{tensor} in the weights of {name} is not finite; download it again")


def _cannot_load(what, name, error):
    why = textwrap.shorten(str(error) or repr(error), 200)  # one line
    remedy = (
        "copy or download it again"
        if Path(name).is_dir()
        else "set MODEL to a local folder, or run the quick experiment: --experiment quick"
    )
    return OSError(f"the {what} {name} cannot be loaded ({why}); {remedy}")


@contextmanager
def _quiet():
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def max_positions(config: PretrainedConfig) -> int:
    """The most tokens that a text may have."""
    return config.max_position_embeddings - architecture_of(config).reserved_positions


def fingerprint(pretrained: PreTrainedModel) -> str:
    """A digest of a base model's shape and encoder weights; the head is left out, it is new.

    Empty for a model without weights (on the meta device).
    """
    if pretrained.device.type == "meta":
        return ""
    config = pretrained.config
    shape = (config.model_type, config.num_hidden_layers, config.num_attention_heads)
    digest = hashlib.sha256(repr(shape).encode())
    for name, parameter in pretrained.named_parameters():
        if not architecture_of(config).in_head(name):
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
