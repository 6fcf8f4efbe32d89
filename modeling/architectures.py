"""Where each model family keeps its blocks, projections, norms and head: one row a family.

The methods speak of "the q projection of a block" or "the norms of a block"; a row says where
a family of transformers' classifiers keeps it. A new family is a new row of `ARCHITECTURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig


@dataclass(frozen=True)
class Architecture:
    """Paths into one family's `...ForSequenceClassification`, dotted as in `get_submodule`."""

    blocks: str  # the list of transformer blocks
    projections: dict[str, str]  # LoRA's short names -> linear layers of a block
    sublayer_outputs: tuple[str, ...]  # last linear of each sublayer, before the residual sum
    norms: tuple[str, ...]  # the normalisation layers of a block
    head: tuple[str, ...]  # what follows the pooled state, from the whole model
    encoder_dropouts: tuple[str, ...]  # the config's dropout rates inside the encoder
    head_dropout: str | None  # the config's dropout rate in the head
    encode: Callable[[nn.Module, Tensor, Tensor], Tensor]  # ids, mask (N, T) -> states (N, d)
    classify: Callable[[nn.Module, Tensor], Tensor]  # states (N, d) -> logits (N, C)
    reserved_positions: int = 0  # of the config's positions, those that no token can have


# ---------------------------------------------------------------------------- encoders

BERT_NORM = "attention.output.LayerNorm"


def first_token(
    encoder: str,
    blocks="encoder.layer",
    attention="attention.self",
    q: str | None = "attention.self.query",
    o="attention.output.dense",
    norm=BERT_NORM,
):
    """`encode` for families whose head reads the first token: (N, T, d) -> (N, d).

    The last block's other tokens matter to nothing but its keys and values. So its attention
    asks for the first token alone (where it can: `plain_attention`), and of the rest of it only
    the first token is computed. `q` is None where that projection is given more than tokens.
    """

    def encode(model, input_ids, attention_mask):
        T = input_ids.shape[1]
        module = model.get_submodule(encoder)
        last = module.get_submodule(blocks)[-1]
        layers = [last.get_submodule(path) for path in (q, o, norm) if path]
        hooks = [layer.register_forward_pre_hook(lambda _, x: x[0][:, :1]) for layer in layers]
        if q:  # what follows wants a query in each place
            hooks.append(layers[0].register_forward_hook(lambda _, x, y: y.expand(-1, T, -1)))
        last.get_submodule(attention).first_query_only = True
        try:
            outputs = module(input_ids=input_ids, attention_mask=attention_mask)
        finally:
            for hook in hooks:
                hook.remove()
            last.get_submodule(attention).first_query_only = False
        return outputs.last_hidden_state[:, 0]

    return encode


def _distilbert_classify(model, states):
    return model.classifier(model.dropout(model.pre_classifier(states).relu()))


def _bert_classify(model, states):
    pooled = model.bert.pooler(states[:, None])  # it takes (N, T, d) and reads the first token
    return model.classifier(model.dropout(pooled))


def _deberta_classify(model, states):
    return model.classifier(model.dropout(model.pooler(states[:, None])))


def _one_module_classify(model, states):
    return model.classifier(states[:, None])


def _modernbert_encode(model, input_ids, attention_mask):
    hidden = model.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    if model.config.classifier_pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask[:, :, None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)  # the mean over the real tokens


def _modernbert_classify(model, states):
    return model.classifier(model.drop(model.head(states)))


DISTILBERT = Architecture(
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
    encode=first_token(
        "distilbert",
        blocks="transformer.layer",
        attention="attention",
        q="attention.q_lin",
        o="attention.out_lin",
        norm="sa_layer_norm",
    ),
    classify=_distilbert_classify,
)

BERT = Architecture(
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
    norms=(BERT_NORM, "output.LayerNorm"),
    head=("bert.pooler.dense", "classifier"),
    encoder_dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob"),
    head_dropout="classifier_dropout",
    encode=first_token("bert"),
    classify=_bert_classify,
)

ROBERTA = replace(
    BERT,
    blocks="roberta.encoder.layer",
    head=("classifier",),  # its dense and out_proj; it reads the first token itself
    encode=first_token("roberta"),
    classify=_one_module_classify,
    reserved_positions=2,  # positions are counted from the padding token's id on
)

ELECTRA = replace(
    ROBERTA,
    blocks="electra.encoder.layer",
    encode=first_token("electra"),
    reserved_positions=0,
)

DEBERTA = replace(
    BERT,
    blocks="deberta.encoder.layer",
    projections=BERT.projections
    | {
        "q": "attention.self.query_proj",
        "k": "attention.self.key_proj",
        "v": "attention.self.value_proj",
    },
    head=("pooler.dense", "classifier"),
    head_dropout="cls_dropout",
    encode=first_token("deberta", q=None),  # its q also projects relative positions
    classify=_deberta_classify,
)

MODERNBERT = Architecture(
    blocks="model.layers",
    projections={
        "q": "attn.Wqkv",  # q, k and v are one fused matrix here: all three or none
        "k": "attn.Wqkv",
        "v": "attn.Wqkv",
        "o": "attn.Wo",
        "up": "mlp.Wi",  # with the gate fused in
        "down": "mlp.Wo",
    },
    sublayer_outputs=("attn.Wo", "mlp.Wo"),
    norms=("attn_norm", "mlp_norm"),  # the first block's attn_norm is an identity
    head=("head", "classifier"),
    encoder_dropouts=("embedding_dropout", "attention_dropout", "mlp_dropout"),
    head_dropout="classifier_dropout",
    encode=_modernbert_encode,
    classify=_modernbert_classify,
)


# ---------------------------------------------------------------------------- decoders


def _last_token(model, input_ids, attention_mask):
    hidden = model.model(
        input_ids=input_ids, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state
    last = attention_mask.sum(1) - 1  # batches are padded on the right
    return hidden[torch.arange(len(last), device=last.device), last]  # (N, T, d) -> (N, d)


def _score(model, states):
    return model.score(states)


DECODER = Architecture(
    blocks="model.layers",
    projections={
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    },
    sublayer_outputs=("self_attn.o_proj", "mlp.down_proj"),
    norms=("input_layernorm", "post_attention_layernorm"),
    head=("score",),
    encoder_dropouts=("attention_dropout",),
    head_dropout=None,
    encode=_last_token,
    classify=_score,
)

ARCHITECTURES = {  # transformers' model_type: where that family keeps things
    "distilbert": DISTILBERT,
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "electra": ELECTRA,
    "deberta-v2": DEBERTA,  # v3 as well
    "modernbert": MODERNBERT,
    "llama": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER,  # the norms of its q and k stay frozen: they belong to the attention
}


def architecture_of(config: PretrainedConfig) -> Architecture:
    """The row for a model's config; `ValueError` that lists the known families otherwise."""
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(
            f"unknown model family {config.model_type!r}; choose a model of {known}, or add a "
            "row to modeling/architectures.py: where it keeps its blocks, projections, sublayer "
            "outputs, norms and head, and how it encodes and classifies"
        )
    return ARCHITECTURES[config.model_type]
