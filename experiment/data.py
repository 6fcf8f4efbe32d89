"""What the runs of an experiment share: texts and their splits, the encoder, its cached output.

task -> divisions by seed -> token ids of all texts that any seed uses, made once
     -> splits by seed -> output of the frozen blocks, computed once for each text
"""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

import modeling
from data_utils import (
    ENCODERS,
    TASKS,
    Division,
    Split,
    encoder_folder,
    in_order,
    load_task,
    tokenise,
)
from modeling import Method, PeftModel
from modeling.inference import features

from .runs import Run
from .settings import Settings
from .state_cache import Store, compute


class Data:
    """Everything that all runs read, loaded once.

    `cache_folder` is for the output of frozen blocks; None: the one of all experiments.
    """

    def __init__(self, settings: Settings, device: torch.device, cache_folder: Path | None = None):
        self.settings, self.device, self.cache_folder = settings, device, cache_folder
        columns = settings.text_column, settings.label_column, settings.group_column
        self.task = load_task(settings.dataset, *columns)
        source = settings.model
        source = str(encoder_folder(source)) if source in ENCODERS else source
        names, dropout = self.task.label_names, settings.encoder_dropout
        self.config = modeling.load_config(source, names, dropout)
        length = settings.max_tokens, settings.truncation
        self.tokenizer = modeling.load_tokenizer(source, self.config, *length)
        self.pretrained = modeling.load_pretrained(source, self.config)
        parts = source, self.config, self.tokenizer, self.pretrained
        self.encoder_digest = modeling.encoder_digest(*parts)
        self.depths: set[int] = set()  # how many blocks are frozen in the experiment's runs
        self.stores: dict[int, Store] = {}  # by depth
        self.seconds = 0.0  # of running the frozen blocks in this process
        self.poolings: dict[tuple[int, float], str] = {}  # by seed and share of its labels

    # ------------------------------------------------------------------------ splits

    @cached_property
    def divisions(self) -> dict[int, Division]:
        """Which texts each seed trains, validates and tests on; for new texts, seed 0 has all."""
        s, task = self.settings, self.task
        if s.final:
            return {0: task.divide_all(0, s.validation_share, s.split_seed)}
        sizes = s.labels, s.validation_share, s.test_examples, s.folds, s.split_seed
        return {seed: task.divide(seed, *sizes) for seed in s.seeds}

    @cached_property
    def texts(self) -> Split:
        """All texts that any seed uses, tokenised, on the device; `rows` says which they are."""
        parts = [p for d in self.divisions.values() for p in (d.train, d.validation, d.test)]
        index = np.unique(np.concatenate(parts))
        rows = self.task.rows.iloc[index]
        groups = rows["group"].tolist() if "group" in rows else None
        split = tokenise(rows["text"].tolist(), rows["label"].tolist(), self.tokenizer, groups)
        return replace(split, rows=index).to(self.device)

    def division(self, run: Run) -> Division:
        """Which texts a run trains, validates and tests on; a method may have a share of them."""
        whole, share = self.divisions[run.seed], run.method.labels
        if share == 1:
            return whole
        parts = {name: self._share(getattr(whole, name), share) for name in ("train", "validation")}
        return replace(whole, **parts)

    def _share(self, index, share):
        """So many of these texts, stratified."""
        order = in_order(self.task.rows["label"].to_numpy()[index], [self.settings.split_seed])
        return np.sort(index[order[: math.ceil(share * len(index))]])

    def splits(self, run: Run) -> dict[str, Split]:
        """A run's train, validation and test."""
        division = self.division(run)
        return {n: self._take(getattr(division, n)) for n in ("train", "validation", "test")}

    def labelled(self, run: Run) -> Split:
        """The texts of both training and validation: what a baseline is fitted to."""
        division = self.division(run)
        return self._take(np.concatenate([division.train, division.validation]))

    def _take(self, index):
        return self.texts.take(np.searchsorted(self.texts.rows, index))

    # ------------------------------------------------------------------------ the encoder

    def build(self, method: Method, pooling: str) -> PeftModel:
        """The classifier, frozen, adapted by the method, and on the device.

        torch's seed decides its new head and what the method adds.
        """
        pretrained = modeling.fresh_copy(self.pretrained)
        model = method.build(pretrained, pooling).to(self.device)
        modeling.use_fast_attention(pretrained, self.device)
        return model

    @property
    def checkpoint(self) -> dict[str, Any]:
        """What every checkpoint of the experiment says."""
        settings, task = self.settings, self.task
        return {
            "label_names": task.label_names,
            "text_column": task.text_column,
            "base_model": settings.model,
            "encoder_digest": self.encoder_digest,
            "max_tokens": settings.max_tokens,
            "truncation": settings.truncation,
        }

    def pooling(self, run: Run) -> str:
        """What the head reads; POOLING = "auto" is chosen by a probe within the run's labels."""
        if self.settings.pooling != "auto":
            return self.settings.pooling
        key = run.seed, run.method.labels
        if key not in self.poolings:
            labelled = self.labelled(run)
            labels = labelled.labels.cpu().numpy()
            layers = self.features(labelled, "layers")
            self.poolings[key] = modeling.choose_pooling(layers, labels, labelled.groups)
        return self.poolings[key]

    def features(self, split: Split, pooling: str) -> np.ndarray:
        """The frozen encoder's features of a split: (n, d), of layers (n, L + 1, d).

        Raises `FloatingPointError` where they are not finite.
        """
        encoder = self.build(Method("head", {}), pooling)
        most_tokens = self.settings.most_tokens(self.device, training=False)
        vectors = features(encoder, self.with_outputs(encoder, split), most_tokens)
        if not np.isfinite(vectors).all():
            raise FloatingPointError("the encoder's features are not finite")
        return vectors

    # ------------------------------------------------------------------------ the cache

    def with_outputs(self, model: PeftModel, split: Split) -> Split:
        """The split with the output of the model's frozen blocks, computed where it is not there.

        As it is where no block is frozen, or CACHE is False.
        """
        if not (model.frozen_blocks and self.settings.cache and len(split)):
            return split
        self.fill({*self.depths, model.frozen_blocks} - {0})
        return replace(split, frozen=self.stores[model.frozen_blocks].of(split))

    def frozen_seconds(self, split: Split, depth: int) -> float:
        """What it took to run a split's texts through the first `depth` blocks; 0 without cache."""
        return self.stores[depth].of(split).seconds if depth in self.stores else 0.0

    def fill(self, depths: set[int]) -> None:
        """Run all texts through the frozen blocks, for those of `depths` that lack any."""
        if depths <= self.stores.keys():
            return
        L = self.config.num_hidden_layers
        deepest = Method("full", {"blocks": L - max(depths)})
        model = self.build(Method("head", {}) if max(depths) == L else deepest, "mean")
        where = self.device, self.cache_folder
        stores = {k: Store(self.encoder_digest, model, k, *where) for k in depths}
        most_tokens = self.settings.most_tokens(self.device, training=False)
        self.seconds += compute(model, self.texts, list(stores.values()), most_tokens)
        self.stores |= stores

    def drop_damaged(self) -> bool:
        """Whether cached output was not finite: it is deleted, and computed anew when needed."""
        damaged = sum(store.drop_damaged() for store in self.stores.values())
        self.stores = {} if damaged else self.stores
        return damaged > 0

    # ------------------------------------------------------------------------ in words

    @property
    def names(self) -> dict[str, str]:
        """What the model and the data are called in files and figures."""
        model, data_set = self.settings.model, self.settings.dataset
        return {"model": ENCODERS.get(model, model), "data_set": TASKS.get(data_set, data_set)}

    @property
    def digests(self) -> dict[str, str]:
        """Of all texts, labels and groups, used or not, and of the encoder."""
        return {"data digest": self.task.digest, "encoder digest": self.encoder_digest}

    def about(self) -> dict[str, Any]:
        """What experiment.json says of the data: of the first seed's splits, and of all tests."""
        first = next(iter(self.divisions))
        task, classes = self.task, len(self.task.label_names)
        names = "train", "validation", "test"
        splits = {n: self._take(getattr(self.divisions[first], n)) for n in names}
        counts = {n: np.bincount(s.labels.cpu(), minlength=classes) for n, s in splits.items()}
        tests = np.unique(np.concatenate([d.test for d in self.divisions.values()]))
        tested = np.bincount(task.rows["label"].to_numpy()[tests], minlength=classes)
        labels = self.settings.labels
        used = len(splits["train"]) + len(splits["validation"])
        is_redrawn = labels is not None and used >= labels
        folds = self.settings.folds if not task.has_test else None
        return {
            **{name: len(split) for name, split in splits.items()},
            **{f"{name}_share_truncated": s.truncated_share for name, s in splits.items()},
            "texts": len(self.texts),
            "folds": folds,
            "labels_redrawn": bool(is_redrawn),
            "labels": {name: each.tolist() for name, each in counts.items()},
            "groups": task.group and {n: len(set(s.groups)) for n, s in splits.items()},
            "majority_share": float(tested.max() / max(1, tested.sum())),
            "notes": [*task.notes, *self.divisions[first].notes],
            "warnings": task.warnings,
        }
