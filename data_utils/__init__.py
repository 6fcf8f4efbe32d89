"""Reviews in, batches out."""

from .batches import Batch, Rows, Split, micro_batches, tokenise, training_batches
from .bundled import ENCODERS, TASKS, encoder_folder, reviews_file
from .reviews import Reviews, Task, load_task

__all__ = [
    "ENCODERS",
    "TASKS",
    "Batch",
    "Reviews",
    "Rows",
    "Split",
    "Task",
    "encoder_folder",
    "load_task",
    "micro_batches",
    "reviews_file",
    "tokenise",
    "training_batches",
]
