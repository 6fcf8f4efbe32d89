"""One pass at a time, when it is one's turn; and transformers' Trainer in such turns."""

import sys
import tempfile
import time

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

import hardware


class Turn:
    """A worker's end: waits for the parent's word, and answers with the seconds since."""

    def __init__(self, pipe, device, lengths, keeps_memory: bool = False):
        self.pipe, self.device, self.lengths = pipe, device, lengths
        self.keeps_memory = keeps_memory  # from one pass to the next, as in a training of its own
        self.start = None

    def __call__(self) -> bool:
        """Wait for one's turn."""
        hardware.synchronise(self.device)
        if self.start is None:
            self.pipe.send(self.lengths)
            hardware.reset_peak_memory(self.device)
            self.resting = hardware.peak_memory(self.device)  # what is held now
        else:
            self.pipe.send(time.perf_counter() - self.start)
        while (order := self.pipe.recv()) == "memory":
            self.pipe.send(self._memory())
        if order == "end":
            sys.exit()
        self.start = time.perf_counter()
        return True

    def _memory(self):
        peak = hardware.peak_memory(self.device)
        if not self.keeps_memory:
            hardware.reset_peak_memory(self.device)  # gives back what other workers need
        return None if peak is None else peak - self.resting


def train_in_turns(turn, model, rows, collator, trainer=Trainer, **options) -> None:
    """Epochs of transformers' Trainer, or one that is derived from it, over `rows`."""

    class Turns(TrainerCallback):
        def on_epoch_begin(self, *_, **__):
            turn()

    train(model, rows, collator, Turns(), trainer, num_train_epochs=1000, **options)


def train(model, rows, collator, callback, trainer=Trainer, **options) -> None:
    """The trainer over `rows`; it writes nothing, and prints nothing."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **options,
        )
        trainer(
            model, arguments, data_collator=collator, train_dataset=rows, callbacks=[callback]
        ).train()
