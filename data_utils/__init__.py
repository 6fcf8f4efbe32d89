"""Labelled texts in, batches out."""

from .batches import Batch, Split, tokenise, training_batches
from .bundled import ENCODERS, TASKS, WITHOUT_TEST, encoder_folder, reviews_file
from .cleaning import clean, encoding_doubts, raw_texts
from .dividing import in_order
from .files import READERS, read_chunks, read_frame
from .loading import load_task
from .task import Division
