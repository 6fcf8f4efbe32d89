"""Reviews in, batches out."""

from .batches import TokenisedReviews, evaluation_batches, tokenise, training_batches
from .embedded import EMBEDDED, encoder_folder, reviews_file
from .reviews import Reviews, load_reviews

__all__ = [
    "EMBEDDED",
    "Reviews",
    "TokenisedReviews",
    "encoder_folder",
    "evaluation_batches",
    "load_reviews",
    "reviews_file",
    "tokenise",
    "training_batches",
]
