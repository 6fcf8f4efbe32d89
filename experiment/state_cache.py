"""What frozen blocks make of each review: computed once, and kept in files that all runs share.

    <HF_HOME>/frozen_blocks/<digest>.hidden  hidden states (tokens, d), one review after another,
                                             where some blocks learn
    <HF_HOME>/frozen_blocks/<digest>.pooled  their part of the features, (reviews, R, d)
    <HF_HOME>/frozen_blocks/<digest>.json    the seconds that it took; written last

The digest is of all that the values depend on: the base model and its config, how many of its
blocks, what is stored of each text, what the head reads, the token ids, the size of micro-batches,
the type computed in, the versions. So other seeds, methods, learning rates, experiments and
processes find them again. Delete that folder to free the disk.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache

import numpy as np
import torch
import transformers
from filelock import FileLock
from huggingface_hub import constants
from tqdm import tqdm

from boundary import BadInput, expanded, reason, replacing, write
from data_utils import Rows, Split, micro_batches
from hardware import Clock, autocast, compute_type
from modeling import PeftModel

from . import processes
from .settings import Settings, tokens_at_once

REMEDY = "set HF_HOME to another folder, or STORE_STATES to False: they are then computed each time"


def cached_states(
    model: PeftModel,
    splits: dict[str, Split],
    settings: Settings,
    halfway: Callable[[], PeftModel] | None = None,
) -> tuple[dict[str, Split], float]:
    """The splits with what the model's frozen blocks make of them, and the seconds that it took.

    They are computed where they are not there; the seconds are those of then, without the test's,
    which is no part of training. `halfway` builds the same encoder, of which fewer blocks are
    frozen: a model that trains its head alone goes on from the states of these. The splits as they
    are where no block is frozen, or STORE_STATES is False. Raises `BadInput` where the cache cannot
    be written.
    """
    if not (model.frozen_blocks and settings.store_states):
        return splits, 0.0
    found, total, halfway = dict(splits), 0.0, halfway and cache(halfway)
    names = list(splits)
    if processes.rank() % 2:  # so that a second process does not wait for the first one's
        names.reverse()
    for name in names:
        states, start = _States(model, splits[name], settings), splits[name]
        if (seconds := states.seconds()) is None:
            encoder, before = model, 0.0
            if halfway and states.exact:
                with torch.random.fork_rng():  # a run's numbers are those of a run with the cache
                    encoder = halfway()
                nearer, before = cached_states(encoder, {name: start}, settings)
                start = nearer[name]
                encoder.requires_grad_(False)  # PyTorch's kernels differ where something learns
            seconds = states.make(encoder, start, before, name)
        total += 0.0 if name == "test" else seconds  # no part of training
        found[name] = replace(splits[name], frozen=states.rows)
    return found, total


def check_cache() -> None:
    """Raise `BadInput` where the cache cannot be written."""
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=_folder()).close()
    except OSError as error:
        raise _refused(error) from error


class _States:
    """The files of one split and model, there or not."""

    @torch.no_grad()
    def __init__(self, model: PeftModel, split: Split, settings: Settings):
        config, device = model.pretrained.config, split.token_ids.device
        self.most_tokens = tokens_at_once(settings, device)
        stored, computed_in = model.stored_vectors, compute_type(device)
        versions = torch.__version__, transformers.__version__
        what = (model.fingerprint, _form(config), model.frozen_blocks, model.pooling, stored)
        how = (self.most_tokens, str(computed_in), device.type, versions)
        digest = hashlib.sha256(repr(what + how).encode())
        digest.update(split.lengths.tobytes())
        digest.update(split.token_ids.cpu().numpy().tobytes())
        self.path = _folder() / digest.hexdigest()[:32]
        self.about = self.path.with_suffix(".json")
        # float16 has no room for the large values of a decoder's states; features are few.
        dtype = torch.bfloat16 if computed_in is torch.bfloat16 else torch.float32
        self.exact = computed_in is torch.float32  # they are stored as they were computed
        places, d = [self.path.with_suffix(s) for s in (".hidden", ".pooled")], config.hidden_size
        hidden = Rows(places[0], split.lengths, stored[0] * d, dtype)
        pooled = Rows(places[1], np.full_like(split.lengths, stored[1]), d, torch.float32)
        self.rows = hidden if stored[0] else None, pooled if stored[1] else None

    def files(self) -> list[Rows]:
        """Those of the two that there are."""
        return [rows for rows in self.rows if rows]

    def seconds(self) -> float | None:
        """What it took to make them; None where they are not there."""
        there = all(path.exists() for path in (self.about, *(rows.path for rows in self.files())))
        with suppress(ValueError):  # a file that a power failure left empty
            return json.loads(self.about.read_text())["seconds"] if there else None

    def make(self, encoder: PeftModel, start: Split, before: float, name: str) -> float:
        """Compute and write them, unless another process has; the seconds that it took.

        `start` may hold the states of the encoder's frozen blocks, which took `before` seconds.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                if (seconds := self.seconds()) is not None:
                    return seconds
                clock = Clock(start.token_ids.device)
                with clock, ExitStack() as stack:
                    parts = [stack.enter_context(replacing(rows.path)) for rows in self.files()]
                    files = [stack.enter_context(part.open("wb")) for part in parts]
                    self._compute(encoder, start, files, name)
                write(self.about, json.dumps({"seconds": before + clock.seconds}))
                return before + clock.seconds
        except OSError as error:  # all else, such as too little memory, is of the computation
            raise _refused(error) from error

    @torch.no_grad()
    def _compute(self, encoder, start, files, name):
        bar = {"total": len(start), "desc": f"frozen blocks, {name}", "unit": "review"}
        bar = tqdm(**bar, disable=processes.quiet())
        encoder.eval()
        for part in micro_batches(start.lengths, np.arange(len(start)), self.most_tokens):
            batch = start.batch(part)
            with autocast(start.token_ids.device):
                if batch.frozen:  # all other blocks
                    features = encoder.encode(*batch.tokens, batch.frozen)
                    frozen = [features.view(len(part), -1, features.shape[-1])]
                else:
                    frozen = encoder.frozen_states(*batch.tokens)
            tensors = [tensor for tensor in frozen if tensor is not None]
            for rows, file, tensor in zip(self.files(), files, tensors, strict=True):
                rows.put(file, part, tensor.to(rows.dtype).cpu())
            bar.update(len(part))
        bar.close()


def _form(config):
    """What a config says of how the blocks compute: all but names, labels and dropout."""
    apart = ("_name_or_path", "architectures", "dtype", "id2label", "label2id")
    return {k: v for k, v in config.to_dict().items() if k not in apart and "drop" not in k}


def _folder():
    return expanded(constants.HF_HOME) / "frozen_blocks"


def _refused(error):
    line = f"what the frozen blocks make of the reviews cannot be kept ({reason(error)})"
    return BadInput(f"{line}; {REMEDY}")
