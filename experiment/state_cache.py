"""The output of the frozen blocks: computed once for each text, and kept in files for all runs.

    <HF_HOME>/frozen_blocks/<digest>/<random>.hidden   hidden states (tokens, d), text after text,
                                                       where some blocks learn
    <HF_HOME>/frozen_blocks/<digest>/<random>.pooled   pooled vectors (texts, R, d)
    <HF_HOME>/frozen_blocks/<digest>/<random>.npz      which texts these are; written last

The digest is of all that the values depend on besides the text: the encoder, the number of its
blocks that run, the type computed in, the kind of device, the versions, our own code. A text is
known by the digest of its token ids. So a text that one fold, seed, method, learning rate,
experiment or process has computed is found by all others. Texts that are computed together are
rounded together, so the values are the encoder's up to the rounding of the type computed in. Delete
the folder to free the disk.
"""

import errno
import hashlib
import inspect
import secrets
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from filelock import Timeout
from huggingface_hub import constants
from torch import Tensor
from tqdm import tqdm

import hardware
from boundary import clear, expanded, lock, reading, replacing, writing
from data_utils import Split
from modeling import PeftModel, architectures, base, fast, frozen_blocks, pooling
from modeling.pooling import calling_with_inputs
from records import DAMAGED

CODE = architectures, base, fast, frozen_blocks, pooling  # whose edits change the output
AT_ONCE, BYTES = 2_000, 2**29  # most texts and bytes kept in memory: an interruption loses them
REMEDY = "set HF_HOME to another folder, or CACHE to False: it is then computed each time"


def text_keys(split: Split) -> list[bytes]:
    """A digest of each text's token ids."""
    texts = np.split(split.token_ids.cpu().numpy(), np.cumsum(split.lengths)[:-1])
    return [hashlib.sha256(ids.tobytes()).digest()[:16] for ids in texts]


@dataclass(frozen=True)
class Place:
    """The place of one text's output in the files of a store."""

    path: Path  # of the files, without their suffix
    number: int  # of the text in the files
    start: int  # the number of its first token in the files
    length: int  # in tokens
    seconds: float  # the time to compute its output


class Store:
    """The output of an encoder's first `depth` blocks, for all texts that were ever asked for.

    `folder` has the folders of all stores; None: frozen_blocks in HF_HOME.
    """

    def __init__(self, digest: str, model: PeftModel, depth: int, folder: Path | None = None):
        device, L = model.pretrained.device, len(model.blocks)
        computed_in = hardware.compute_type(device)
        depends_on = digest, depth, str(computed_in), device.type
        depends_on += torch.__version__, transformers.__version__, *map(inspect.getsource, CODE)
        name = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:32]
        folder = folder or expanded(constants.HF_HOME) / "frozen_blocks"
        self.folder, self.depth = folder / name, depth
        self.width, self.has_hidden = model.pretrained.config.hidden_size, depth < L
        self.vectors = depth + 1 + (depth == L)  # R: means, then the family's own vector
        # float16 has no room for a decoder's large hidden states. Vectors are few, so float32.
        self.dtype = torch.bfloat16 if computed_in is torch.bfloat16 else torch.float32
        self.places: dict[bytes, Place] = {}

    def look(self) -> None:
        """Read which texts the store has; other processes may have added some."""
        known = {place.path for place in self.places.values()}
        for index in self.folder.glob("*.npz"):
            path = index.with_suffix("")
            if path in known:
                continue
            with reading(str(index), DAMAGED), np.load(index) as file:
                keys, lengths, seconds = file["keys"], file["lengths"], file["seconds"].item()
            starts, share = np.cumsum(lengths) - lengths, seconds / lengths.sum()
            for i, (key, start, length) in enumerate(zip(keys, starts, lengths, strict=True)):
                place = Place(path, i, int(start), int(length), float(share * length))
                self.places.setdefault(key.tobytes(), place)

    def lacking(self, keys: list[bytes]) -> list[int]:
        """The positions in `keys` of the texts that the store lacks."""
        return [i for i, key in enumerate(keys) if key not in self.places]

    def bytes_of(self, lengths: np.ndarray) -> int:
        """The bytes on disk that texts of these lengths take."""
        hidden = int(lengths.sum()) * self.dtype.itemsize * self.has_hidden
        return (hidden + len(lengths) * self.vectors * 4) * self.width

    def clear(self) -> None:
        """Delete the leftovers of killed processes; the caller holds the lock."""
        clear(self.folder)
        for path in [*self.folder.glob("*.hidden"), *self.folder.glob("*.pooled")]:
            if not path.with_suffix(".npz").exists():
                path.unlink()

    def write(self, texts: list[tuple], seconds: float) -> None:
        """Write the key, length, hidden states and pooled vectors of texts; the index last."""
        keys, lengths, hidden, pooled = zip(*texts, strict=True)
        path = self.folder / secrets.token_hex(8)
        for suffix, values in ((".hidden", hidden), (".pooled", pooled)):
            if values[0] is not None:
                with replacing(path.with_suffix(suffix)) as part, part.open("wb") as file:
                    file.writelines(each.view(torch.uint8).numpy() for each in values)
        with replacing(path.with_suffix(".npz")) as part:
            index = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
            np.savez(part, keys=index, lengths=np.array(lengths), seconds=seconds)

    def outputs(self, split: Split) -> "Outputs":
        """The outputs for the texts of a split; the store must have all of them."""
        keyed = zip(split.rows.tolist(), text_keys(split), strict=True)
        return Outputs(self, {row: self.places[key] for row, key in keyed})


@dataclass(frozen=True)
class Outputs:
    """The stored outputs for the texts of a split."""

    store: Store
    places: dict[int, Place]  # by the text's row

    @property
    def seconds(self) -> float:
        """The time that it took to compute these outputs."""
        return sum(place.seconds for place in self.places.values())

    def batch(self, rows, device: torch.device) -> tuple[Tensor | None, Tensor]:
        """The outputs for the N texts at `rows`, on the device.

        Hidden states (N, T, d), zeros after a text's last token, or None where all blocks are
        frozen; and pooled vectors (N, R, d).
        """
        places, store = [self.places[row] for row in rows.tolist()], self.store
        d, R, hidden, pinned = store.width, store.vectors, None, device.type == "cuda"
        pooled = torch.empty((len(places), R, d), pin_memory=pinned)
        for vectors, place in zip(pooled, places, strict=True):
            _read(place.path.with_suffix(".pooled"), vectors, place.number * R * d)
        if store.has_hidden:
            shape = len(places), max(place.length for place in places), d
            hidden = torch.zeros(shape, dtype=store.dtype, pin_memory=pinned)
            for states, place in zip(hidden, places, strict=True):
                _read(place.path.with_suffix(".hidden"), states[: place.length], place.start * d)
            hidden = hidden.to(device, non_blocking=pinned)
        return hidden, pooled.to(device, non_blocking=pinned)


def _read(file, values, start):
    """Fill a tensor with the numbers of a file from number `start` on.

    A mapped file would count as memory of the process.
    """
    raw, count = {2: np.int16, 4: np.int32}[values.dtype.itemsize], values.numel()
    with reading(str(file), f"delete the folder {file.parent}: it is then computed anew"):
        numbers = np.fromfile(file, raw, count, offset=start * values.dtype.itemsize)
        if len(numbers) < count:
            raise EOFError("the file is too short")
    values.copy_(torch.from_numpy(numbers).view(values.dtype).view_as(values))


def _locked(path):
    try:
        return lock(path, timeout=0)
    except Timeout:
        print("Waiting for another process, which runs the frozen blocks", flush=True)
        return lock(path)


def compute(model: PeftModel, split: Split, stores: list[Store], most_tokens: int) -> None:
    """Run the frozen blocks once on the split's texts that the stores lack, and store the output.

    `model` has as many frozen blocks as the deepest store. Raises `BadInput` where the output
    cannot be written.
    """
    stores, keys = sorted(stores, key=lambda store: store.depth), text_keys(split)
    for store in stores:
        store.look()
    stores = [store for store in stores if store.lacking(keys)]
    if not stores:  # so no lock is waited for
        return
    with writing("the output of the frozen blocks", REMEDY), ExitStack() as locks:
        for store in stores:  # in one order in all processes
            store.folder.mkdir(0o700, parents=True, exist_ok=True)  # texts can be read from it
            locks.enter_context(_locked(store.folder / ".lock"))
            store.clear()
            store.look()  # another process may have computed it
        lacking = sorted({i for store in stores for i in store.lacking(keys)})
        if not lacking:
            return
        size = sum(store.bytes_of(split.lengths[store.lacking(keys)]) for store in stores)
        where = f"{size / 1e6:,.0f} MB in {stores[0].folder.parent}"
        print(f"Frozen blocks: {len(lacking):,} texts, {where}", flush=True)
        if size > shutil.disk_usage(stores[0].folder).free:
            raise OSError(errno.ENOSPC, f"no room for {where}")
        at_once = max(1, min(AT_ONCE, BYTES * len(lacking) // size))
        with tqdm(total=len(lacking), desc="frozen blocks", unit="text", disable=None) as bar:
            for start in range(0, len(lacking), at_once):
                part = split.take(np.array(lacking[start : start + at_once]))
                _compute(model, part, stores, most_tokens, bar)


@torch.no_grad()
def _compute(model, split, stores, most_tokens, bar):
    """Run the frozen blocks once, and write to each store the output that it lacks."""
    device, blocks = split.token_ids.device, list(model.eval().blocks)
    texts, keys, clock = {store: [] for store in stores}, text_keys(split), hardware.Clock()
    next_block = {store: blocks[store.depth] for store in stores if store.has_hidden}
    with clock:
        for places in split.micro_batches(np.arange(len(split)), most_tokens):
            batch, entering = split.batch(places), {}  # hidden states, by the block that they enter
            calling = calling_with_inputs(next_block.values(), entering.__setitem__)
            with calling, hardware.autocast(device):
                vectors = model.frozen_states(*batch.tokens).pooled
            for store in stores:
                block = next_block.get(store)
                hidden = None if block is None else entering[block].to(store.dtype).cpu()
                pooled = vectors[:, : store.vectors].float().cpu().contiguous()
                for i in store.lacking([keys[place] for place in places]):
                    place, length = places[i], split.lengths[places[i]]
                    states = None if hidden is None else hidden[i, :length].clone()
                    texts[store].append((keys[place], length, states, pooled[i]))
            bar.update(len(places))
    for store in stores:
        if texts[store]:  # else only other depths lacked these texts
            tokens = sum(length for _, length, *_ in texts[store])
            share = tokens / split.lengths.sum() * store.depth / model.frozen_blocks
            store.write(texts[store], share * clock.seconds)
            store.look()
