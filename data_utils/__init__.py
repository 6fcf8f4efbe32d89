"""Reviews in, batches out."""

from .batches import Batch, Rows, Split, micro_batches, tokenise, training_batches
from .bundled import ENCODERS, TASKS, encoder_folder, reviews_file
from .reviews import Reviews, Task, load_task
