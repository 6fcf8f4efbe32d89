"""Config, tokenizer and weights of a pretrained classifier, from the hub or a folder, checked."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

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

from boundary import BadInput, reading

from .architectures import architecture_of


def load_config(
    name: str, label_names: list[str], encoder_dropout: float | None = None
) -> PretrainedConfig:
    """The config of a pretrained encoder, for a head with these labels.

    `name` is a hub name or a folder. `encoder_dropout` replaces the dropout rates inside the
    encoder, and leaves the head's as it is, but for MPNet, whose head takes the encoder's; None
    keeps the model's own. Raises `BadInput`.
    """
    labels = {i: str(label) for i, label in enumerate(label_names)}
    numbers = {label: i for i, label in labels.items()}
    if name.startswith(("/", ".", "~")) and not os.path.isdir(name):
        raise BadInput(f"MODEL {name} does not exist; expected a folder or a hub name")
    with _loading("config", name):
        config = AutoConfig.from_pretrained(
            name, id2label=labels, label2id=numbers, trust_remote_code=False
        )
        architecture = architecture_of(config)
        if encoder_dropout is not None:
            head = architecture.head_dropout
            if head and getattr(config, head, None) is None:  # DeBERTa's config may lack it
                # Such a head falls back on the encoder's rate: keep the one it would have had.
                setattr(config, head, getattr(config, architecture.encoder_dropouts[0]))
            for rate in architecture.encoder_dropouts:
                setattr(config, rate, encoder_dropout)
    return config


def load_tokenizer(
    name: str, config: PretrainedConfig, max_tokens: int, truncation: str = "left"
) -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained encoder: pads on the right, truncates to `max_tokens`.

    `truncation` is the side on which longer texts lose tokens, "left" (the beginning) or "right".
    Its padding token's id goes into `config`, which decoders need to be told. Raises `BadInput`,
    for more tokens than the model has positions as well.
    """
    most = config.max_position_embeddings - architecture_of(config).reserved_positions
    if max_tokens > most:
        raise BadInput(
            f"MAX_TOKENS is {max_tokens}, but {name} has {most} positions; set it to {most} or less"
        )
    sides = {"padding_side": "right", "truncation_side": truncation}
    with _loading("tokenizer", name):
        tokenizer = AutoTokenizer.from_pretrained(
            name, model_max_length=max_tokens, trust_remote_code=False, **sides
        )
        ids = tokenizer.get_vocab().values()
        # What transformers makes where files are absent has special tokens and no others.
        if not tokenizer.is_fast or len(ids) <= len(tokenizer.all_special_ids):
            raise BadInput(f"{name} has no tokenizer.json; copy it there or download it again")
        if max(ids) >= config.vocab_size:
            raise BadInput(
                f"the tokenizer of {name} has {max(ids) + 1:,} tokens, but the model has "
                f"{config.vocab_size:,} embeddings: they do not belong together"
            )
        if tokenizer.pad_token_id is None:  # decoders often have none; the mask hides it anyway
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def load_pretrained(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """The pretrained classifier. Its head is random where the files have none: seed torch first.

    Raises `BadInput` where the weights are not those of the config's model, or not finite.
    """
    with _loading("weights", name):
        pretrained, found = AutoModelForSequenceClassification.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            output_loading_info=True,
            trust_remote_code=False,
        )
        row = architecture_of(config)
        blocks = row.blocks.removeprefix(f"{pretrained.base_model_prefix}.")
        wrong = {tensor for tensor, _, _ in found["mismatched_keys"]}
        wrong |= {tensor for tensor in found["missing_keys"] if not row.in_head(tensor)}
        wrong |= {tensor for tensor in found["unexpected_keys"] if f".{blocks}." in f".{tensor}"}
        if wrong:
            labels = f"a model of its shape with {config.num_labels} labels"
            raise BadInput(f"the weights of {name} are not those of {labels}: see {min(wrong)}")
        for tensor, values in pretrained.named_parameters():
            if not values.sum(dtype=torch.float64).isfinite():
                raise BadInput(f"{tensor} in the weights of {name} is not finite")
        pretrained.new_tensors = found["missing_keys"]  # of the head: their values are random
    return pretrained


@contextmanager
def _loading(part: str, name: str) -> Iterator[None]:
    """What transformers says meanwhile is not news: that the head is new is what we ask for."""
    remedy = (
        "copy or download it again"
        if os.path.isdir(name)  # False for a name that is too long
        else "set MODEL to a local folder, or run the quick experiment: --experiment quick"
    )
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with reading(f"the {part} of MODEL {name}", remedy):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def fingerprint(pretrained: PreTrainedModel) -> str:
    """A digest of a base model's shape and encoder weights; the head is left out, it is new.

    Empty for a model without weights (on the meta device).
    """
    if pretrained.device.type == "meta":
        return ""
    config = pretrained.config
    shape = (config.model_type, config.num_hidden_layers, config.num_attention_heads)
    digest, in_head = hashlib.sha256(repr(shape).encode()), architecture_of(config).in_head
    for name, tensor in pretrained.named_parameters():
        if not in_head(name):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
