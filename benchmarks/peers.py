"""What users would pick instead, each set up as well as its documentation allows.

    peft defaults   peft and transformers' Trainer as they come
    peft tuned      bf16 if faster, batches of similar length, no dropout inside the encoder
    adapterhub      AdapterHub's `adapters`, tuned likewise (benchmarks/adapterhub.py)

A peer can choose which blocks to adapt, and runs all.
"""

import json
import os
import subprocess

import torch

import hardware
import modeling
from benchmarks.turns import train_in_turns
from benchmarks.work import Work


def peft_defaults(work: Work, device, turn):
    """peft and Trainer as they come; its data collator pads each batch to its longest."""
    _trainer(work, turn, None)


def peft_tuned(work: Work, device, turn):
    """peft and Trainer as someone who knows them would set them."""
    bf16 = hardware.compute_type(device) is torch.bfloat16  # as ours: where it is faster
    _trainer(work, turn, 0.0, bf16=bf16, train_sampling_strategy="group_by_length")


def _trainer(work, turn, dropout, **options):
    import peft
    from transformers import DataCollatorWithPadding

    pretrained = work.pretrained(dropout)
    architecture = modeling.architectures.architecture_of(pretrained.config)
    if work.method == "lora":
        blocks = range(work.frozen, work.frozen + work.sizes.blocks)
        config = peft.LoraConfig(
            task_type="SEQ_CLS",
            r=work.size,
            lora_alpha=2 * work.size,
            target_modules=[architecture.projections[name] for name in ("q", "k", "v", "o")],
            layers_to_transform=list(blocks),
        )
        pretrained = peft.get_peft_model(pretrained, config)
    collator = DataCollatorWithPadding(work.tokenizer)
    options["per_device_train_batch_size"] = work.batch_size
    train_in_turns(turn, pretrained, _rows(work), collator, **options)


def _rows(work):
    reviews = work.split()
    ids = reviews.token_ids.split(reviews.lengths.tolist())
    pairs = zip(ids, reviews.labels, strict=True)
    return [{"input_ids": ids.tolist(), "labels": int(label)} for ids, label in pairs]


def adapterhub(work: Work, device, turn):
    """AdapterHub's trainer, in the environment of the interpreter ADAPTERS_PYTHON."""
    names = ("folder", "method", "size", "batch_size", "frozen")
    facts = {name: getattr(work, name) for name in names} | {"rows": _rows(work)}
    end = turn.pipe.fileno()  # it answers the parent itself
    command = [os.environ["ADAPTERS_PYTHON"], "-m", "benchmarks.adapterhub", str(end)]
    subprocess.run(command, input=json.dumps(facts).encode(), pass_fds=[end], check=True)
