"""The libraries that users would pick instead: `peft`, and transformers' Trainer."""

import tempfile
from collections.abc import Callable

import peft
import torch
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

import hardware
from experiment import Data, Run
from modeling import Method
from modeling.architectures import architecture_of


def lora(pretrained: nn.Module, method: Method, **options) -> peft.PeftModel:
    """peft's LoRA of the matrices and blocks that `method` adapts."""
    choice, L = method.hyperparameters, pretrained.config.num_hidden_layers
    projections = architecture_of(pretrained.config).projections
    config = peft.LoraConfig(
        r=choice["rank"],
        lora_alpha=choice["alpha"],
        target_modules=[projections[name] for name in choice["targets"]],
        layers_to_transform=list(range(L - (choice["blocks"] or L), L)),
        **options,
    )
    return peft.get_peft_model(pretrained, config)


def tuned(device: torch.device) -> dict:
    """Trainer's options as an expert sets them: bf16 or fp16 if faster, texts grouped by length."""
    dtype = hardware.compute_type(device)
    narrow = {"bf16": dtype is torch.bfloat16, "fp16": dtype is torch.float16}
    return narrow | {"train_sampling_strategy": "group_by_length"}


def train(data: Data, run: Run, model: nn.Module, note: dict[int, Callable], **options) -> None:
    """Run Trainer over the training texts of a run; `note[step]()` is called after that step."""

    class Call(TrainerCallback):
        def on_step_end(self, arguments, state, control, **_):
            note.get(state.global_step, lambda: None)()

    split = data.splits(run)["train"]
    ids = split.token_ids.split(split.lengths.tolist())
    pairs = zip(ids, split.labels.tolist(), strict=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=data.device.type == "cpu",
            per_device_train_batch_size=data.settings.batch_size,
            **options,
        )
        arguments._n_gpu = min(1, arguments.n_gpu)  # else it takes all visible GPUs
        Trainer(
            model,
            arguments,
            data_collator=DataCollatorWithPadding(data.encoder.tokenizer),
            train_dataset=[{"input_ids": ids.tolist(), "labels": label} for ids, label in pairs],
            callbacks=[Call()],
        ).train()
