"""The machine that makes a run: its device and software, and the run's time and memory."""

import ast
import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from boundary import BadInput, reason

OUT_OF_MEMORY = "out of memory; free some (CUDA_VISIBLE_DEVICES=-1 takes the CPU, not a GPU)"
PROGRAM = Path(__file__).resolve().parent
LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "safetensors",
    "scikit-learn",
    "pandas",
    "numpy",
)


def choose_device() -> torch.device:
    """CUDA, Apple's MPS or the CPU: the first of them that is available.

    Under torchrun each process takes the GPU of its local rank. Raises `BadInput` for a GPU on
    which torch cannot compute.
    """
    if torch.cuda.is_available():
        if rank := os.environ.get("LOCAL_RANK"):
            torch.cuda.set_device(int(rank) % torch.cuda.device_count())
        try:
            torch.ones(1, device="cuda") + 1  # fails where this torch has no kernels for it
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            line = f"the GPU {torch.cuda.get_device_name()} cannot be used ({reason(error)})"
            remedy = "install another torch, or set CUDA_VISIBLE_DEVICES=-1 for the CPU"
            raise BadInput(f"{line}; {remedy}") from error
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def compute_type(device: torch.device) -> torch.dtype:
    """The type in which the device multiplies matrices fastest, float32 where no other is faster.

    bfloat16 where the device has it; float16 on CUDA cards without it, such as the T4.
    """
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float16
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        if can.get("avx512_bf16", False) or can.get("amx_bf16", False):
            return torch.bfloat16
    return torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """A context in which matrices are multiplied in the device's `compute_type`."""
    dtype = compute_type(device)
    return torch.autocast(device.type, dtype, enabled=dtype is not torch.float32)


def prepare_device(device: torch.device) -> None:
    """Settings of the whole process that make the device faster."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for products that stay in float32
        # cuDNN's attention would plan anew for each shape of a batch, and with a mask its gradient
        # may be NaN (pytorch/pytorch#196678).
        torch.backends.cuda.enable_cudnn_sdp(False)
    elif device.type == "cpu":
        keep_freed_memory()


def describe(device: torch.device) -> str:
    """The device, its threads and the type it computes in, in words."""
    precision = str(compute_type(device)).removeprefix("torch.").replace("bfloat", "bf")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' * (count > 1)}" if device.type == "cpu" else ""
    return f"{device.type} ({processor_name()}{threads}, {precision})"


def environment(device: torch.device) -> dict:
    """Versions of Python and the libraries, and the machine."""
    return {
        "device": describe(device),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "code": commit(),
    }


def processor_name() -> str:
    """The CPU's name, or at least its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Clock:
    """Adds up the seconds of its `with` blocks; the device has finished all work at both ends."""

    seconds = 0.0

    def __enter__(self):
        synchronise()
        self.start = time.perf_counter()

    def __exit__(self, *error):
        synchronise()
        self.seconds += time.perf_counter() - self.start


def synchronise() -> None:
    """Wait until the GPU, if there is one, has done all its work."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensors; new pages would have to be zeroed."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        tune = ctypes.CDLL(None).mallopt
        tune(mmap_threshold, 2**30), tune(trim_threshold, 2**31 - 1)


def other_load(device: torch.device) -> float | None:
    """How many threads of other processes ran or waited in the last minute; None where unknown.

    Other programs on the machine make a run longer: its seconds say little of this program.
    """
    if not hasattr(os, "getloadavg"):
        return None
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return max(0.0, round(os.getloadavg()[0] - threads, 2))


def reset_peak_memory(device: torch.device) -> None:
    """Start to look for a new peak of memory, without memory that earlier work has freed."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float | None:
    """The peak in MiB since the reset: of tensors on CUDA, of the whole process on the CPU.

    None where the system does not tell (the CPU elsewhere than on Linux, MPS).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM"))


@cache
def commit(folder: Path = PROGRAM) -> str | None:
    """The git commit of this program, with "+" where its .py files differ from it.

    Then comes a digest of the differences, without finetuning.py's constants, which runs record.

    None without git, where git refuses, and where `folder` is not the top of a repository: inside
    another repository, the commit would be of that repository.
    """

    def git(*words):
        command = ("git", "-C", folder, *words)
        return subprocess.run(command, capture_output=True, check=True).stdout

    diff = "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "HEAD", "--"
    try:
        top, head, *_ = os.fsdecode(git("rev-parse", "--show-toplevel", "HEAD")).split("\n")
        changed, edited = git(*diff, "*.py", ":!finetuning.py"), git(*diff, "finetuning.py")
        new = git("ls-files", "-z", "--others", "--exclude-standard", "--", "*.py")
        if edited:
            before, now = git("show", "HEAD:finetuning.py"), (folder / "finetuning.py").read_bytes()
            if without_constants(now) != without_constants(before):
                changed += without_constants(now)
    except (OSError, subprocess.CalledProcessError):  # no git on this machine, or no commit
        return None
    if Path(top).resolve() != folder:
        return None
    for name in filter(None, new.split(b"\0")):
        with suppress(OSError):  # a link to nothing
            changed += name + (folder / os.fsdecode(name)).read_bytes()
    digest = hashlib.sha256(changed).hexdigest()[:8] if changed else ""
    return head + "+" * bool(changed or edited) + digest


def without_constants(source: bytes) -> bytes:
    """Python code without the assignments at its top level, comments and layout."""
    nodes = ast.parse(source).body
    return "".join(ast.dump(node) for node in nodes if not isinstance(node, ast.Assign)).encode()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory, of the device or of the machine, was too small."""
    words = "allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED"
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
