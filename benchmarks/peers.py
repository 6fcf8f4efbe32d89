"""What users would pick instead, each set up as well as its documentation allows.

    peft defaults   peft and transformers' Trainer as they come
    peft tuned      bf16 if faster, batches of similar length, no dropout inside the encoder

A peer can choose which blocks to adapt, and runs all.
"""

import torch

import hardware
from benchmarks.turns import train_in_turns
from benchmarks.work import Work
from data_utils import Split
from modeling.architectures import architecture_of


def peft_defaults(work: Work, device, turn):
    """peft and Trainer as they come; its data collator pads each batch to its longest."""
    _trainer(work, turn, None)


def peft_tuned(work: Work, device, turn):
    """peft and Trainer as someone who knows them would set them."""
    bf16 = hardware.compute_type(device) is torch.bfloat16  # as ours: where it is faster
    _trainer(work, turn, 0.0, bf16=bf16, train_sampling_strategy="group_by_length")


def _trainer(work, turn, dropout, **options):
    from transformers import DataCollatorWithPadding

    pretrained = work.pretrained(dropout)
    if work.method == "lora":
        pretrained = lora(pretrained, work.size, work.sizes.blocks, task_type="SEQ_CLS")
    collator = DataCollatorWithPadding(work.tokenizer)
    options["per_device_train_batch_size"] = work.batch_size
    train_in_turns(turn, pretrained, rows_of(work.split()), collator, **options)


def lora(pretrained, rank: int, blocks: int, **options):
    """peft's LoRA on q, k, v, o of the last blocks, with alpha = 2 r, as ours."""
    import peft

    row, L = architecture_of(pretrained.config), pretrained.config.num_hidden_layers
    options["target_modules"] = [row.projections[name] for name in ("q", "k", "v", "o")]
    options["layers_to_transform"] = list(range(L - blocks, L))
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, **options)
    return peft.get_peft_model(pretrained, config)


def rows_of(reviews: Split) -> list[dict]:
    """The reviews as Trainer reads them."""
    ids = reviews.token_ids.split(reviews.lengths.tolist())
    pairs = zip(ids, reviews.labels.tolist(), strict=True)
    return [{"input_ids": ids.tolist(), "labels": label} for ids, label in pairs]
