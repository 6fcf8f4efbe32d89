"""The data that an experiment's runs share: texts, splits, the encoder and its cached output.

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

import data_utils
import hardware
import modeling
from boundary import BadInput
from data_utils import ENCODERS, TASKS, Division, Split
from modeling import Method, PeftModel
from modeling.frozen_blocks import begin_alike
from modeling.inference import features

from .runs import Run
from .settings import Settings
from .state_cache import Store, compute

SAMPLE = 1000  # texts in which other letters are counted


class Data:
    """Everything that all runs read, loaded once.

    `cache_folder` holds the output of frozen blocks; None: the folder that all experiments share.
    """

    def __init__(self, settings: Settings, device: torch.device, cache_folder: Path | None = None):
        self.settings, self.device, self.cache_folder = settings, device, cache_folder
        columns = settings.text_column, settings.label_column, settings.group_column
        self.task = data_utils.load_task(settings.dataset, *columns)
        names, dropout = self.task.label_names, settings.encoder_dropout
        length = settings.max_tokens, settings.truncation
        self.encoder = modeling.load_encoder(settings.model, names, *length, dropout)
        self.depths: set[int] = set()  # the numbers of frozen blocks in the experiment's runs
        self.stores: dict[int, Store] = {}  # by depth
        self.frozen_clock = hardware.Clock()  # the time to run the frozen blocks, or to wait
        self.poolings: dict[tuple[int, float], str] = {}  # by seed and share of the seed's labels

    # ------------------------------------------------------------------------ splits

    @cached_property
    def divisions(self) -> dict[int, Division]:
        """Which texts each seed trains, validates and tests on; with --final, seed 0 has all."""
        s, task = self.settings, self.task
        if s.final:
            return {0: task.divide_all(0, s.validation_share, s.split_seed)}
        sizes = s.labels, s.validation_share, s.test_examples, s.folds, s.split_seed
        return {seed: task.divide(seed, *sizes) for seed in s.seeds}

    @cached_property
    def texts(self) -> Split:
        """All texts that any seed uses, tokenised, on the device; `rows` are places in the task."""
        parts = [p for d in self.divisions.values() for p in (d.train, d.validation, d.test)]
        index = np.unique(np.concatenate(parts))
        rows = self.task.rows.iloc[index]
        groups = rows["group"].tolist() if "group" in rows else None
        texts, labels = rows["text"].tolist(), rows["label"].tolist()
        split = data_utils.tokenise(texts, labels, self.encoder.tokenizer, groups)
        return replace(split, rows=index).to(self.device)

    @property
    def seeds_have_own_labels(self) -> bool:
        """Whether each seed has training texts of its own: a sample, or all but its fold."""
        is_folds = self.settings.folds is not None and not self.task.has_test
        return is_folds or any(division.is_sample for division in self.divisions.values())

    def division(self, run: Run) -> Division:
        """Which texts a run trains, validates and tests on; labels=0.5 halves the first two."""
        first = next(iter(self.divisions.values()))  # a baseline may run once for all seeds
        whole, share = self.divisions.get(run.seed, first), run.method.labels
        if share == 1:
            return whole
        labels, parts = self.task.rows["label"].to_numpy(), {}
        seeds = [self.settings.split_seed]
        seeds += [] if self.seeds_have_own_labels else [run.seed]  # so seeds get different shares
        for name in ("train", "validation"):
            index = getattr(whole, name)
            order = data_utils.in_order(labels[index], seeds)  # stratified
            parts[name] = np.sort(index[order[: math.ceil(share * len(index) - 1e-9)]])
        return replace(whole, **parts)

    def splits(self, run: Run) -> dict[str, Split]:
        """A run's splits by name: train, validation and test."""
        return self._splits(self.division(run))

    def _splits(self, division):
        return {n: self._take(getattr(division, n)) for n in ("train", "validation", "test")}

    def labelled(self, run: Run) -> Split:
        """The texts of training and validation together, to which a baseline is fitted."""
        division = self.division(run)
        return self._take(np.concatenate([division.train, division.validation]))

    def _take(self, index):
        return self.texts.take(np.searchsorted(self.texts.rows, index))

    # ------------------------------------------------------------------------ the encoder

    def build(self, method: Method, pooling: str) -> PeftModel:
        """The classifier, frozen, adapted by the method, and on the device.

        torch's seed decides the new head and the parameters that the method adds. Raises `BadInput`
        where the method changes frozen blocks: their cached output is the unchanged encoder's.
        """
        pretrained = modeling.fresh_copy(self.encoder.pretrained)
        model = method.build(pretrained, pooling)
        k = model.frozen_blocks if self.settings.cache else 0
        if k and not begin_alike(pretrained, self.encoder.pretrained, k):
            line = f"{method.text} changes the encoder before block {k}, where nothing is trained"
            raise BadInput(f"{line}: its output is cached; set CACHE = False (--no-cache)")
        model.to(self.device)
        modeling.use_fast_attention(pretrained, self.device)
        return model

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The fields that all checkpoints of the experiment share."""
        settings, task = self.settings, self.task
        return {
            "label_names": task.label_names,
            "text_column": task.text_column,
            "base_model": settings.model,
            "encoder_digest": self.encoder.digest,
            "max_tokens": settings.max_tokens,
            "truncation": settings.truncation,
        }

    def pooling(self, run: Run) -> str:
        """The pooling of a run; with POOLING = "auto", a probe chooses it on the run's labels."""
        if self.settings.pooling != "auto":
            return self.settings.pooling
        key = run.seed, run.method.labels
        if key not in self.poolings:
            labelled = self.labelled(run)
            labels = labelled.labels.cpu().numpy()
            vectors = {"layers": self.features(labelled, "layers")}
            vectors |= {"mean": vectors["layers"][:, -1]}
            vectors |= {"first": self.features(labelled, "first")}
            self.poolings[key] = modeling.choose_pooling(vectors, labels, labelled.groups)
        return self.poolings[key]

    def features(self, split: Split, pooling: str) -> np.ndarray:
        """The frozen encoder's features of a split, (n, d); for the pooling "layers" (n, L + 1, d).

        Raises `BadInput` where they are not finite.
        """
        encoder = self.build(Method("head", {}), pooling)
        most_tokens = self.settings.most_tokens(self.device, training=False)
        vectors = features(encoder, self.with_outputs(encoder, split), most_tokens)
        if not np.isfinite(vectors).all():
            raise BadInput("the encoder's features are not finite; choose another MODEL")
        return vectors

    # ------------------------------------------------------------------------ the cache

    def with_outputs(self, model: PeftModel, split: Split) -> Split:
        """The split with the output of the model's frozen blocks, computed where it is missing.

        The split stays as it is where it is empty, no block is frozen, or CACHE is False.
        """
        if not (model.frozen_blocks and self.settings.cache and len(split)):
            return split
        self.fill({*self.depths, model.frozen_blocks} - {0})
        return replace(split, frozen=self.stores[model.frozen_blocks].outputs(split))

    def frozen_seconds(self, split: Split, depth: int) -> float:
        """The seconds of running the first `depth` blocks on a split's texts; 0 without a cache."""
        return self.stores[depth].outputs(split).seconds if depth in self.stores else 0.0

    def fill(self, depths: set[int]) -> None:
        """Run the frozen blocks on each text that a store of one of the `depths` lacks."""
        if depths <= self.stores.keys():
            return
        L = self.encoder.config.num_hidden_layers
        deepest = Method("full", {"blocks": L - max(depths)})  # 0 blocks: the head alone
        with torch.random.fork_rng(devices=[]):  # a run's dropout depends on its seed alone
            model = self.build(deepest, "mean")
        digest, folder = self.encoder.digest, self.cache_folder
        stores = {k: Store(digest, model, k, folder) for k in depths}
        texts, most_tokens = self.texts, self.settings.most_tokens(self.device, training=False)
        with self.frozen_clock:
            compute(model, texts, list(stores.values()), most_tokens)
        self.stores |= stores

    # ------------------------------------------------------------------------ in words

    @property
    def names(self) -> dict[str, str]:
        """The names of the model and the data set in files and figures."""
        model, data_set = self.settings.model, self.settings.dataset
        names = {"model": ENCODERS.get(model, model), "data_set": TASKS.get(data_set, data_set)}
        # People share figures: the folders of an absolute path are theirs alone.
        return {k: Path(v).name if Path(v).is_absolute() else v for k, v in names.items()}

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the data (all texts, labels, groups, used or not) and of the encoder."""
        return {"data digest": self.task.digest, "encoder digest": self.encoder.digest}

    @cached_property
    def notes(self) -> list[str]:
        """How the data was understood, and how any seed divides it."""
        divided = (note for division in self.divisions.values() for note in division.notes)
        return [*self.task.notes, *dict.fromkeys(divided)]

    @cached_property
    def warnings(self) -> list[str]:
        """The task's, and one where the encoder does not know the texts' words or letters."""
        tokenizer, model = self.encoder.tokenizer, self.settings.model
        ids, unknown = self.texts.token_ids.cpu().numpy(), tokenizer.unk_token_id  # or None
        words = ids[~np.isin(ids, [each for each in tokenizer.all_special_ids if each != unknown])]
        share = float(np.mean(words == unknown)) if len(words) else 0.0
        text = "".join(self.texts.texts[:SAMPLE])
        others = sum(letter.isalpha() and not letter.isascii() for letter in text)
        line = f"{share:.0%} of the texts' tokens are unknown to MODEL {model}"
        if model in ENCODERS and others > 0.2 * len(text):
            line = f"MODEL {model} was trained on English, and the texts have other letters; {line}"
            return [*self.task.warnings, f"{line}: give a --model of their language"]
        line = f"{line} (emoji, other letters): compare with tfidf, which needs none"
        return [*self.task.warnings, *[line] * (share >= 0.05)]

    def about(self) -> dict[str, Any]:
        """The entry of experiment.json about the data; its counts are of the first seed's splits.

        With folds, `texts` counts the texts that all folds together test, whatever seeds this start
        has. The truncated share and the groups are of the folds that this start tests.
        """
        task, division, settings = self.task, next(iter(self.divisions.values())), self.settings
        splits, folds = self._splits(division), None if task.has_test else settings.folds
        texts, tested, parts = len(self.texts), splits["test"], splits
        if folds and not settings.final:
            texts = task.tested(folds, settings.test_examples, settings.split_seed)
            index = np.concatenate([division.test for division in self.divisions.values()])
            tested = self._take(np.unique(index))
            parts = {"tested": tested}
        groups = {name: len(set(split.groups or ())) for name, split in parts.items()}
        return {
            **{name: len(split) for name, split in splits.items()},
            "test_share_truncated": tested.truncated_share,
            "texts": texts,
            "is_own": settings.is_own,
            "folds": folds,
            "labels_redrawn": division.is_sample,
            "groups": task.group and groups,
            "notes": self.notes,
            "warnings": self.warnings,
        }
