"""Where each model family keeps its blocks, projections, norms and head: one row a family.

The methods speak of "the q projection of a block" or "the norms of a block"; a row says where
a family of transformers' classifiers keeps it. A new family is a new row of `ARCHITECTURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PretrainedConfig


@dataclass(frozen=True)
class Architecture:
    """Paths into one family's `...ForSequenceClassification`, dotted as in `get_submodule`."""

    blocks: str  # the list of transformer blocks
    projections: dict[str, str]  # LoRA's short names -> linear layers of a block
    sublayer_outputs: tuple[str, ...]  # last linear of each sublayer, before the residual sum
    norms: tuple[str, ...]  # the normalisation layers of a block
    head: tuple[str, ...]  # the layers after the pooled state, in order, from the whole model
    encoder_dropouts: tuple[str, ...]  # the config's dropout rates inside the encoder
    head_dropout: str  # the config's dropout rate before the last layer
    encode: Callable[[nn.Module, Tensor, Tensor], Tensor]  # ids, mask (N, T) -> states (N, d)
    classify: Callable[[nn.Module, Tensor], Tensor]  # states (N, d) -> logits (N, C)


def _distilbert_encode(model, input_ids, attention_mask):
    encoded = model.distilbert(input_ids=input_ids, attention_mask=attention_mask)
    return encoded.last_hidden_state[:, 0]  # the [CLS] token: (N, T, d) -> (N, d)


def _distilbert_classify(model, states):
    return model.classifier(model.dropout(model.pre_classifier(states).relu()))


def _bert_encode(model, input_ids, attention_mask):
    encoded = model.bert(input_ids=input_ids, attention_mask=attention_mask)
    return encoded.last_hidden_state[:, 0]  # the [CLS] token: (N, T, d) -> (N, d)


def _bert_classify(model, states):
    pooled = model.bert.pooler(states[:, None])  # it takes (N, T, d) and reads the first token
    return model.classifier(model.dropout(pooled))


ARCHITECTURES = {
    "distilbert": Architecture(
        blocks="distilbert.transformer.layer",
        projections={
            "q": "attention.q_lin",
            "k": "attention.k_lin",
            "v": "attention.v_lin",
            "o": "attention.out_lin",
            "up": "ffn.lin1",
            "down": "ffn.lin2",
        },
        sublayer_outputs=("attention.out_lin", "ffn.lin2"),
        norms=("sa_layer_norm", "output_layer_norm"),
        head=("pre_classifier", "classifier"),
        encoder_dropouts=("dropout", "attention_dropout"),
        head_dropout="seq_classif_dropout",
        encode=_distilbert_encode,
        classify=_distilbert_classify,
    ),
    "bert": Architecture(
        blocks="bert.encoder.layer",
        projections={
            "q": "attention.self.query",
            "k": "attention.self.key",
            "v": "attention.self.value",
            "o": "attention.output.dense",
            "up": "intermediate.dense",
            "down": "output.dense",
        },
        sublayer_outputs=("attention.output.dense", "output.dense"),
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        head=("bert.pooler.dense", "classifier"),
        encoder_dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob"),
        head_dropout="classifier_dropout",
        encode=_bert_encode,
        classify=_bert_classify,
    ),
}


def architecture_of(config: PretrainedConfig) -> Architecture:
    """The row for a model's config; `ValueError` that lists the known families otherwise."""
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(
            f"unknown model family {config.model_type!r}; choose a model of {known}, "
            "or add a row to modeling/architectures.py"
        )
    return ARCHITECTURES[config.model_type]
