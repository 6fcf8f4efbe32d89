"""What frozen blocks make of each review: computed once, and kept in files that all runs share.

    <HF_HOME>/frozen_blocks/<digest>         hidden states (tokens, d), one review after another,
                                             or pooled features (reviews, d) where all are frozen
    <HF_HOME>/frozen_blocks/<digest>.json    the seconds that it took; written last

The digest is of all that the values depend on: the base model and its config, how many of its
blocks, the token ids, the type computed in, the versions. So other seeds, methods, learning rates,
experiments and processes find them again. That folder holds nothing else: delete it to free the
disk.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import transformers
from filelock import FileLock
from huggingface_hub import constants
from torch import Tensor
from tqdm import tqdm

from boundary import BadInput, check_room, expanded, reason, replacing, write
from data_utils import Batch, Rows, Split, micro_batches
from hardware import Clock, compute_type
from modeling import PeftModel

from . import processes

REMEDY = "set HF_HOME to another disk, or STORE_STATES to False: they are then computed each time"


@dataclass(frozen=True)
class FrozenStates:
    """The states of one split after a model's frozen blocks; `base` is its fingerprint."""

    model: PeftModel
    split: Split
    base: str

    @property
    def rows(self) -> Rows:
        """Where they are, or will be."""
        model, split = self.model, self.split
        device, pooled = split.token_ids.device, model.frozen_blocks == len(model.blocks)
        computed_in = compute_type(device)
        # float16 has no room for the large values of a decoder's states; features are few.
        small = computed_in is torch.bfloat16 and not pooled
        versions = torch.__version__, transformers.__version__
        form = _form(model.pretrained.config)
        what = (self.base, form, model.frozen_blocks, str(computed_in), device.type, versions)
        digest = hashlib.sha256(repr(what).encode())
        digest.update(split.lengths.tobytes())
        digest.update(split.token_ids.cpu().numpy().tobytes())
        return Rows(
            path=expanded(constants.HF_HOME) / "frozen_blocks" / digest.hexdigest()[:32],
            lengths=np.ones_like(split.lengths) if pooled else split.lengths,
            width=model.pretrained.config.hidden_size,
            dtype=torch.bfloat16 if small else torch.float32,
        )

    def load(
        self, compute: Callable[[Batch], Tensor], most_tokens: int, what: str
    ) -> tuple[Rows, float]:
        """The states, computed if they are not there, and the seconds that it took when it was.

        `compute` gives the (N, T, d) of a batch; micro-batches have `most_tokens` at most.
        Raises `BadInput` where the cache cannot be written.
        """
        rows = self.rows
        about = rows.path.with_suffix(".json")
        try:
            rows.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(rows.path.with_suffix(".lock")):  # another process may be making them
                seconds = _seconds(about, rows)
                if seconds is None:
                    clock = Clock(self.split.token_ids.device)
                    with clock, replacing(rows.path) as part:
                        self._write(replace(rows, path=part), compute, most_tokens, what)
                    seconds = clock.seconds
                    write(about, json.dumps({"seconds": seconds}))
                return rows, seconds
        except OSError as error:  # all else, such as too little memory, is of the computation
            line = f"the frozen blocks' states {rows.path} cannot be kept ({reason(error)})"
            raise BadInput(f"{line}; {REMEDY}") from error

    @torch.no_grad()
    def _write(self, rows, compute, most_tokens, what):
        bar = tqdm(total=len(self.split), desc=what, unit="review", disable=processes.quiet())
        self.model.eval()
        with rows.path.open("wb") as file:
            for index in micro_batches(self.split.lengths, np.arange(len(self.split)), most_tokens):
                states = compute(self.split.batch(index)).to(rows.dtype).cpu()
                rows.put(file, index, states)
                bar.update(len(index))
        bar.close()


def _form(config):
    """What a config says of how the blocks compute: all but names, labels and dropout."""
    apart = ("_name_or_path", "architectures", "dtype", "id2label", "label2id")
    return {k: v for k, v in config.to_dict().items() if k not in apart and "drop" not in k}


def _seconds(about, rows):
    """The seconds that the file of states took; None where there is no whole one."""
    try:
        if rows.path.stat().st_size == rows.bytes:
            return json.loads(about.read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, TypeError, KeyError):
        pass  # absent, or damaged in any way
    return None


def check_states_fit(needed: Iterable[FrozenStates]) -> None:
    """Raise `BadInput` where the cache's disk has no room for those that are not there."""
    rows = [states.rows for states in needed]
    missing = sum(r.bytes for r in rows if _seconds(r.path.with_suffix(".json"), r) is None)
    what = "what the frozen blocks make of the reviews"
    check_room(expanded(constants.HF_HOME), missing, what, REMEDY)
