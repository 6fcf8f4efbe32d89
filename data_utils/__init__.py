"""Reviews in, batches out."""

from .batches import Batch, Rows, Split, micro_batches, tokenise, training_batches
from .bundled import BUNDLED, BUNDLED_BASE, ENCODERS, encoder_folder, reviews_file
from .reviews import Reviews, load_reviews

__all__ = [
    "BUNDLED",
    "BUNDLED_BASE",
    "ENCODERS",
    "Batch",
    "Reviews",
    "Rows",
    "Split",
    "encoder_folder",
    "load_reviews",
    "micro_batches",
    "reviews_file",
    "tokenise",
    "training_batches",
]
