"""AdapterHub's `adapters` with its own trainer. It pins an older transformers than ours is.

    python -m venv adapterhub
    adapterhub/bin/pip install adapters==1.3.0 accelerate torch==2.13.0      the torch of both
    ADAPTERS_PYTHON=adapterhub/bin/python python -m benchmarks.speed --blocks 3 2

As someone who knows it would set it: bf16, batches of similar length, no dropout inside the
encoder, `leave_out` for the first blocks. Its LoRA adapts q, k and v, having no o; its adapters
are Houlsby's, with GELU, and leave the norms frozen. So it trains a little less than ours.
"""

import json
import sys
import warnings
from importlib import import_module
from multiprocessing.connection import Connection

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    logging,
)

import hardware
from benchmarks.turns import Turn, train_in_turns


def adapted(work: dict, adapters):
    """The bundled classifier with LoRA or adapters in its last blocks."""
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = AutoConfig.from_pretrained(work["folder"], classifier_dropout=0.1, **no_dropout)
    model = AutoModelForSequenceClassification.from_pretrained(work["folder"], config=config)
    adapters.init(model)
    size, frozen = work["size"], list(range(work["frozen"]))
    choices = {
        "lora": adapters.LoRAConfig(
            r=size, alpha=2 * size, attn_matrices=["q", "k", "v"], leave_out=frozen
        ),
        "adapter": adapters.DoubleSeqBnConfig(
            reduction_factor=config.hidden_size / size, non_linearity="gelu", leave_out=frozen
        ),
    }
    model.add_adapter("timed", choices[work["method"]])
    model.train_adapter("timed")
    return model


def main():
    """Make the passes that the parent asks for, of the work that stands on standard input."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()  # that the head is new is what we ask for
    work, pipe = json.load(sys.stdin), Connection(int(sys.argv[1]))
    adapters = import_module("adapters")  # of its own environment: no requirement of ours
    device = hardware.choose_device()
    lengths = np.array([len(row["input_ids"]) for row in work["rows"]])
    train_in_turns(
        Turn(pipe, device, lengths),
        adapted(work, adapters),
        work["rows"],
        DataCollatorWithPadding(AutoTokenizer.from_pretrained(work["folder"])),
        adapters.AdapterTrainer,
        per_device_train_batch_size=work["batch_size"],
        bf16=hardware.compute_type(device) is torch.bfloat16,
        group_by_length=True,
    )


if __name__ == "__main__":
    main()
