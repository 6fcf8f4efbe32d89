"""The numbers of a run while it trains, for TensorBoard: tensorboard --logdir results/quick"""

from pathlib import Path

from boundary import BadInput

from .state import State


def check() -> None:
    """Raise `BadInput` where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise BadInput(
            "TENSORBOARD is True and the package tensorboard is not installed; "
            "run: pip install tensorboard"
        ) from None


def log(folder: Path, state: State) -> None:
    """Add the steps since the evaluation before, and the last evaluation, as event files."""
    from torch.utils.tensorboard import SummaryWriter

    before = state.history[-2]["step"] if len(state.history) > 1 else 0
    # What a killed run wrote after this point is dropped when it is read.
    with SummaryWriter(folder, purge_step=before + 1) as writer:
        for row in state.steps[before:]:
            for name in ("loss", "learning_rate", "gradient_norm"):
                writer.add_scalar(f"step/{name}", row[name], row["step"])
        row = state.history[-1]
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            writer.add_scalar(name.replace("_", "/"), row[name], row["step"])
