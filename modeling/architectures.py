"""Where each model family keeps its blocks, projections, norms and head: one row a family.

The methods speak of "the q projection of a block" or "the norms of a block"; a row says where
a family of transformers' classifiers keeps it. A new family is a new row of `ARCHITECTURES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from boundary import BadInput

from .pooling import mean_of_tokens


@dataclass(frozen=True)
class Architecture:
    """Paths into one family's `...ForSequenceClassification`, dotted as in `get_submodule`."""

    blocks: str  # the list of transformer blocks
    embeddings: tuple[str, ...]  # other modules before the second block; a model may lack some
    projections: dict[str, str]  # short names, q k v o up down gate -> linear layers of a block
    norms: tuple[str, ...]  # the normalisation layers of a block
    head: tuple[str, ...]  # the layers after the pooling, as paths from the whole model
    encoder_dropouts: tuple[str, ...]  # the config's dropout rates inside the encoder
    head_dropout: str | None  # the config's dropout rate in the head
    own_pooling: Callable[[PretrainedConfig, Tensor, Tensor], Tensor]  # the pooling "first"
    classify: Callable[[nn.Module, Tensor], Tensor]  # features (N, d) -> logits (N, C)
    block_is_tuple: bool = False  # whether a block returns a tuple, hidden states first
    reserved_positions: int = 0  # how many of the config's positions no token can have

    @property
    def sublayer_outputs(self) -> tuple[str, str]:
        """The last linear layer of attention and of feed-forward, before the residual sum."""
        return self.projections["o"], self.projections["down"]

    def matrices(self, targets: Sequence[str], rank: int) -> tuple[str, ...]:
        """The paths of a block's matrices, each once, that get an update of a rank.

        Raises `BadInput` for an unknown target, no target, a part of a fused matrix, or a rank
        below 1.
        """
        if rank < 1:
            raise BadInput(f"rank is {rank}; expected 1 or more")
        if not targets or not set(targets) <= set(self.projections):
            raise BadInput(f"targets are {list(targets)}; choose from {list(self.projections)}")
        paths = dict.fromkeys(self.projections[target] for target in targets)
        fused = [name for name, path in self.projections.items() if path in paths]
        if missing := set(fused) - set(targets):
            raise BadInput(
                f"targets are {list(targets)}, but this family keeps {sorted(missing)} in the "
                "same matrix: choose all of it or none"
            )
        return tuple(paths)

    def in_head(self, parameter: str) -> bool:
        """Whether the parameter of this name belongs to the head."""
        return parameter.startswith(tuple(f"{layer}." for layer in (*self.head, "layers_head")))


# ---------------------------------------------------------------------------- encoders


def _first_token(config, hidden, attention_mask):
    """(N, T, d) -> (N, d)"""
    return hidden[:, 0]


def _bert_classify(model, features):
    pooled = model.bert.pooler(features[:, None])  # it takes (N, T, d) and reads the first token
    return model.classifier(model.dropout(pooled))


def _modernbert_pooling(config, hidden, attention_mask):
    if config.classifier_pooling == "cls":
        return hidden[:, 0]
    return mean_of_tokens(hidden, attention_mask)


DISTILBERT = Architecture(
    blocks="distilbert.transformer.layer",
    embeddings=("distilbert.embeddings",),
    projections={
        "q": "attention.q_lin",
        "k": "attention.k_lin",
        "v": "attention.v_lin",
        "o": "attention.out_lin",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
    },
    norms=("sa_layer_norm", "output_layer_norm"),
    head=("pre_classifier", "classifier"),
    encoder_dropouts=("dropout", "attention_dropout"),
    head_dropout="seq_classif_dropout",
    own_pooling=_first_token,
    classify=lambda model, features: model.classifier(
        model.dropout(model.pre_classifier(features).relu())
    ),
)

BERT = Architecture(
    blocks="bert.encoder.layer",
    embeddings=("bert.embeddings",),
    projections={
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    },
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    head=("bert.pooler.dense", "classifier"),
    encoder_dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob"),
    head_dropout="classifier_dropout",
    own_pooling=_first_token,
    classify=_bert_classify,
)

ROBERTA = replace(
    BERT,
    blocks="roberta.encoder.layer",
    embeddings=("roberta.embeddings",),
    head=("classifier",),  # its dense and out_proj; it reads the first token itself
    classify=lambda model, features: model.classifier(features[:, None]),
    reserved_positions=2,  # positions are counted from the padding token's id on
)

ELECTRA = replace(
    ROBERTA,
    blocks="electra.encoder.layer",
    embeddings=("electra.embeddings", "electra.embeddings_project"),
    reserved_positions=0,
)

MPNET = replace(
    ROBERTA,
    blocks="mpnet.encoder.layer",
    embeddings=("mpnet.embeddings",),
    projections=BERT.projections
    | {
        "q": "attention.attn.q",
        "k": "attention.attn.k",
        "v": "attention.attn.v",
        "o": "attention.attn.o",
    },
    norms=("attention.LayerNorm", "output.LayerNorm"),
    head_dropout=None,  # its head takes the encoder's rate
    block_is_tuple=True,
)

DEBERTA = replace(
    BERT,
    blocks="deberta.encoder.layer",
    embeddings=("deberta.embeddings", "deberta.encoder.conv"),  # beside the first block
    projections=BERT.projections
    | {
        "q": "attention.self.query_proj",
        "k": "attention.self.key_proj",
        "v": "attention.self.value_proj",
    },
    head=("pooler.dense", "classifier"),
    head_dropout="cls_dropout",
    classify=lambda model, features: model.classifier(
        model.dropout(model.pooler(features[:, None]))
    ),
    block_is_tuple=True,
)

MODERNBERT = Architecture(
    blocks="model.layers",
    embeddings=("model.embeddings",),
    projections={
        "q": "attn.Wqkv",  # q, k and v are one fused matrix here: all three or none
        "k": "attn.Wqkv",
        "v": "attn.Wqkv",
        "o": "attn.Wo",
        "up": "mlp.Wi",  # with the gate fused in
        "down": "mlp.Wo",
    },
    norms=("attn_norm", "mlp_norm"),  # the first block's attn_norm is an identity
    head=("head", "classifier"),
    encoder_dropouts=("embedding_dropout", "attention_dropout", "mlp_dropout"),
    head_dropout="classifier_dropout",
    own_pooling=_modernbert_pooling,
    classify=lambda model, features: model.classifier(model.drop(model.head(features))),
)


# ---------------------------------------------------------------------------- decoders


def _last_token(config, hidden, attention_mask):
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)  # (T,)
    last = (attention_mask * places).argmax(1)  # (N,) on whichever side the padding is
    return hidden[torch.arange(len(last), device=last.device), last]  # (N, T, d) -> (N, d)


DECODER = Architecture(
    blocks="model.layers",
    embeddings=("model.embed_tokens",),
    projections={
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    },
    norms=("input_layernorm", "post_attention_layernorm"),
    head=("score",),
    encoder_dropouts=("attention_dropout",),
    head_dropout=None,
    own_pooling=_last_token,
    classify=lambda model, features: model.score(features),
)

ARCHITECTURES = {  # transformers' model_type: the family's row
    "distilbert": DISTILBERT,
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "electra": ELECTRA,
    "mpnet": MPNET,
    "deberta-v2": DEBERTA,  # v3 as well
    "modernbert": MODERNBERT,
    "llama": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER,  # the norms of its q and k stay frozen: they belong to the attention
}


def architecture_of(config: PretrainedConfig) -> Architecture:
    """The row for a model's config. Raises `BadInput` for a family without a row."""
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise BadInput(
            f"unknown model family {config.model_type!r}; choose a model of {known}, or add a "
            "row to modeling/architectures.py: where it keeps its blocks, projections, norms and "
            "head, and what its classifier reads"
        )
    return ARCHITECTURES[config.model_type]
