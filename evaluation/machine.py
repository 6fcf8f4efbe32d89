"""The machine that a run was made on: what it is, and what the run took of it."""

import ctypes
import math
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import torch

LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "safetensors", "pandas", "numpy")


def choose_device() -> torch.device:
    """CUDA, or Apple's MPS, or the CPU: the first that is there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def compute_type(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies matrices faster in it, float32 elsewhere."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        can = torch.cpu.get_capabilities()
        fast = can.get("avx512_bf16", False) or can.get("amx_bf16", False)
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def describe(device: torch.device) -> str:
    """The device, its threads and the type it computes in, in words."""
    precision = "bf16" if compute_type(device) is torch.bfloat16 else "float32"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device.type} ({processor_name()}{threads}, {precision})"


def environment(device: torch.device) -> dict:
    """Versions of Python and the libraries, the machine, and the code's git commit."""
    status = _git("status", "--porcelain")
    return {
        "device": describe(device),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
    }


def processor_name() -> str:
    """The CPU's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Clock:
    """Adds up the seconds of the blocks that run under it; work of the device has ended at both
    ends of a block."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = 0.0

    def __enter__(self):
        synchronise(self.device)
        self.start = time.perf_counter()

    def __exit__(self, *error):
        synchronise(self.device)
        self.seconds += time.perf_counter() - self.start


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def keep_freed_memory() -> bool:
    """Have the C library keep what tensors free, for the next ones; True where it can (glibc).

    By default it hands large blocks back to the system, which gives out and zeroes new pages for
    the next tensor: on a CPU that costs more than many an operation on them.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    tune = ctypes.CDLL(None).mallopt
    return bool(tune(mmap_threshold, 2**30) and tune(trim_threshold, 2**31 - 1))


def matrix_rate(device: torch.device) -> float:
    """Operations a second of this device's matrix products, in its compute type, measured."""
    a = torch.randn(4096, 768, device=device, dtype=compute_type(device))
    b = torch.randn(768, 768, device=device, dtype=compute_type(device))
    seconds = []
    for _ in range(10):  # the fastest: the first warms up, and others may use the machine too
        clock = Clock(device)
        with clock:
            for _ in range(3):
                a @ b
        seconds.append(clock.seconds)
    return 3 * 2 * a.numel() * b.shape[1] / min(seconds)


def total_memory(device: torch.device) -> float:
    """All the bytes that the device has; infinite where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def reset_peak_memory(device: torch.device) -> None:
    """Start to look for a new peak of memory; what earlier work has freed is not to be in it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float | None:
    """The peak in MiB since the reset: of tensors on CUDA, of the whole process on the CPU.

    None where the system does not tell (the CPU elsewhere than on Linux, MPS).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return _process_memory("VmHWM") if os.access("/proc/self/clear_refs", os.W_OK) else None


def memory(device: torch.device) -> float | None:
    """What is held now in MiB, of what `peak_memory` is the peak of."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    return _process_memory("VmRSS") if os.access("/proc/self/clear_refs", os.W_OK) else None


def _process_memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(name))


def _git(*arguments):
    here = Path(__file__).parent
    try:
        done = subprocess.run(("git", *arguments), cwd=here, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
