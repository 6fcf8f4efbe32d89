"""peft with transformers' Trainer, tuned to the CPU, as a side of studies/whole_question.py.

It shares with this package all that is not the package's idea: the folds, the rates, the epochs,
the early stopping, and the setting that keeps freed memory. It runs all blocks at each step. Its
head is `AutoModelForSequenceClassification`'s, on BERT's pooler, which sees the first token.

What was tried, on an AMD EPYC with AVX-512 bf16: CPU seconds of one thread for an epoch of 128
texts of 128 tokens in batches of 32, in turn, two to four times (other programs ran as well).

    float32, PyTorch's fused attention           7.4
    bf16 by autocast                             5.0    4.9 to 5.1
      and batches of 16, of 64                   5.0    within 2 %
      and evaluation in batches of 64, of 128    the same, for an epoch and for an evaluation
      and freed memory kept                      5.0    kept: it may help a machine without load
      and torch.compile                          5.0    after 12 to 21 more for each model
    autocast and eager attention                 4.6    4.4 to 4.7; for 27 tokens 1.8, not 2.3
      and frozen weights in bf16                 3.9    3.8 to 4.0; taken
      and torch.compile                          4.1    after 24 more for each model
      and these without autocast                 4.3    4.1 to 4.5

If the pooler learns too, the validation loss is 0.02 lower on one fold of Rotten Tomatoes, and 0.02
to 0.07 higher on three. So the pooler stays frozen, as in peft.
"""

import tempfile

import numpy as np
import pandas as pd
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
)

import hardware
from data_utils import encoder_folder
from studies import whole_question_sides as constants


def predict_all(texts: pd.DataFrame, folds: pd.DataFrame) -> pd.Series:
    """The predicted label of each text, from the fold that tests it."""
    hardware.prepare_device(hardware.choose_device())
    tokenizer = AutoTokenizer.from_pretrained(
        encoder_folder(), truncation_side=constants.TRUNCATION
    )
    ids = tokenizer(texts["text"].tolist(), truncation=True, max_length=constants.MAX_TOKENS)
    numbers, names = pd.factorize(texts["label"], sort=True)
    pairs = zip(ids["input_ids"], numbers.tolist(), strict=True)
    rows = [{"input_ids": tokens, "labels": label} for tokens, label in pairs]
    answers = [best_of_rates(rows, folds[fold].to_numpy(), tokenizer) for fold in folds]
    return pd.concat(answers).map(dict(enumerate(names)))


def best_of_rates(rows: list[dict], split: np.ndarray, tokenizer) -> pd.Series:
    """Test predictions (numbers of labels) with the rate that has the lowest validation loss."""
    places = {name: np.flatnonzero(split == name) for name in ("train", "validation", "test")}
    places["test"] = np.array(sorted(places["test"], key=lambda i: len(rows[i]["input_ids"])))
    parts = {name: [rows[i] for i in index] for name, index in places.items()}
    lowest, predicted = np.inf, None
    for rate in constants.RATES:
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(parts, tokenizer, rate, folder)
            trainer.train()
            if trainer.state.best_metric < lowest:
                lowest = trainer.state.best_metric
                trainer.args.train_sampling_strategy = "random"  # else predictions are shuffled
                predicted = trainer.predict(parts["test"]).predictions.argmax(1)
    return pd.Series(predicted, index=places["test"])


def trainer_of(parts: dict[str, list], tokenizer, rate: float, folder: str) -> Trainer:
    """A Trainer of a new model; after `train` it has the model with the lowest validation loss."""
    device = hardware.choose_device()
    arguments = TrainingArguments(
        folder,
        learning_rate=rate,
        num_train_epochs=constants.EPOCHS,
        per_device_train_batch_size=constants.BATCH_SIZE,
        per_device_eval_batch_size=constants.EVALUATION_BATCH_SIZE,
        weight_decay=constants.WEIGHT_DECAY,
        warmup_steps=constants.WARMUP,  # below 1: a share of the steps
        bf16=hardware.compute_type(device) is torch.bfloat16,
        fp16=hardware.compute_type(device) is torch.float16,
        use_cpu=device.type == "cpu",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="best",
        save_only_model=True,  # LoRA and the classifier: 1 MB
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # else it takes all visible GPUs
    return Trainer(
        lora(1 + max(row["labels"] for row in parts["train"])),
        arguments,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
        callbacks=[EarlyStoppingCallback(constants.PATIENCE)],
    )


def lora(labels: int) -> PeftModel:
    """A new model for so many labels, with peft's LoRA in its last blocks and no dropout."""
    torch.manual_seed(0)
    dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder_folder(),
        num_labels=labels,
        attn_implementation="eager",
        dtype=hardware.compute_type(hardware.choose_device()),
        **dict.fromkeys(dropouts, 0.0),
    )
    model.classifier.float()  # it learns; LoRA's matrices are in float32 by themselves
    L = model.config.num_hidden_layers
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=constants.RANK,
        lora_alpha=constants.ALPHA,
        target_modules=constants.MODULES,
        layers_to_transform=list(range(L - constants.BLOCKS, L)),
    )
    return get_peft_model(model, config)
