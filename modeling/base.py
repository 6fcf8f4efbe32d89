"""What every method shares: a pretrained classifier, frozen, and a head that learns.

    input_ids, attention_mask (N, T) --encode--> states (N, d) --classify--> logits (N, C)

A method is a subclass that says one thing, in `adapt`: what it adds or unfreezes.
"""

import hashlib
import inspect
import pickle
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from .architectures import architecture_of


def load_config(name: str, label_names: list[str], encoder_dropout: float | None = None):
    """The config and the tokenizer of a pretrained encoder, for a head with these labels.

    `name` is a hub name or a folder. `encoder_dropout` replaces the dropout rates inside the
    encoder, and leaves the head's as it is; None keeps the model's own. Raises `ValueError` for
    an unknown family and `OSError` where the files cannot be had.
    """
    labels = {i: str(label) for i, label in enumerate(label_names)}
    numbers = {label: i for i, label in labels.items()}
    try:
        config = AutoConfig.from_pretrained(name, id2label=labels, label2id=numbers)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise _cannot_load("model", name, error) from None
    architecture = architecture_of(config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
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
    tokenizer.padding_side = "right"
    config.pad_token_id = tokenizer.pad_token_id
    if encoder_dropout is not None:
        if architecture.head_dropout and getattr(config, architecture.head_dropout) is None:
            # BERT's head falls back on the encoder's rate: keep the one it would have had.
            own = getattr(config, architecture.encoder_dropouts[0])
            setattr(config, architecture.head_dropout, own)
        for rate in architecture.encoder_dropouts:
            setattr(config, rate, encoder_dropout)
    return config, tokenizer


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
    config = pretrained.config
    head = tuple(f"{layer}." for layer in architecture_of(config).head)
    for tensor, theirs, ours in sorted(found["mismatched_keys"]):
        if tensor.startswith(head) and theirs[0] != ours[0] == config.num_labels:
            raise ValueError(
                f"the weights of {name} have a head for {theirs[0]} labels, and there are "
                f"{ours[0]}; choose the model that it was trained from"
            )
        raise ValueError(
            f"{tensor} in the weights of {name} has shape {tuple(theirs)}, its config expects "
            f"{tuple(ours)}; download both again"
        )
    if missing := sorted(key for key in found["missing_keys"] if not key.startswith(head)):
        raise ValueError(
            f"the weights of {name} lack {len(missing)} tensors of its config's model, such as "
            f"{missing[0]}; download both again"
        )
    for tensor, values in pretrained.named_parameters():
        if not values.isfinite().all():
            raise ValueError(f"{tensor} in the weights of {name} is not finite; download it again")


def _cannot_load(what, name, error):
    why = next((line for line in str(error).splitlines() if line.strip()), repr(error)).strip()
    if isinstance(error, StrictDataclassError):
        why = " ".join(str(error).split())
    mend = (
        "copy or download it again"
        if Path(name).is_dir()
        else "set MODEL to a local folder, or run the quick experiment: --experiment quick"
    )
    return OSError(f"the {what} {name} cannot be loaded ({why}); {mend}")


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
    """The most tokens that a review may have."""
    return config.max_position_embeddings - architecture_of(config).reserved_positions


def fingerprint(pretrained: PreTrainedModel) -> str:
    """A digest of a base model's shape and encoder weights; the head is left out, it is new.

    Empty for a model without weights (on the meta device).
    """
    if pretrained.device.type == "meta":
        return ""
    config, head = pretrained.config, architecture_of(pretrained.config).head
    shape = (config.model_type, config.num_hidden_layers, config.num_attention_heads)
    digest = hashlib.sha256(repr(shape).encode())
    for name, parameter in pretrained.named_parameters():
        if not name.startswith(tuple(f"{layer}." for layer in head)):
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


class PeftModel(nn.Module):
    """A pretrained classifier of which only `adapt`'s choice and the head are trained."""

    def __init__(self, pretrained: PreTrainedModel, **hyperparameters):
        super().__init__()
        self.pretrained = pretrained
        self.architecture = architecture_of(pretrained.config)
        choice = inspect.signature(self.adapt).bind(**hyperparameters)
        choice.apply_defaults()
        self.hyperparameters = choice.arguments
        self.fingerprint = fingerprint(pretrained)
        pretrained.requires_grad_(False)
        self.adapt(**hyperparameters)
        for path in self.architecture.head:
            pretrained.get_submodule(path).requires_grad_(True)

    def adapt(self) -> None:
        """Add or unfreeze what the method trains besides the head."""
        raise NotImplementedError

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        return self.pretrained.get_submodule(self.architecture.blocks)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and their mask (N, T) -> pooled states (N, d), what the head reads."""
        return self.architecture.encode(self.pretrained, input_ids, attention_mask)

    def classify(self, states: Tensor) -> Tensor:
        """Pooled states (N, d) -> logits (N, C)."""
        return self.architecture.classify(self.pretrained, states)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and their mask (N, T) -> logits (N, C)."""
        return self.classify(self.encode(input_ids, attention_mask))

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether `encode` gives the same states whatever has been learnt so far.

        True where all that is trained is the head: then one pass over the reviews serves every
        epoch.
        """
        head = [self.pretrained.get_submodule(path) for path in self.architecture.head]
        of_the_head = {id(p) for layer in head for p in layer.parameters()}
        return all(id(p) in of_the_head for p in self.trainable_parameters().values())

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by their name in the transformers model."""
        named = self.pretrained.named_parameters()
        return {name: p for name, p in named if p.requires_grad}

    def count_parameters(self) -> tuple[int, int]:
        """(trainable, all) parameters of the adapted model, each counted once."""
        trainable = sum(p.numel() for p in self.trainable_parameters().values())
        return trainable, sum(p.numel() for p in self.pretrained.parameters())
