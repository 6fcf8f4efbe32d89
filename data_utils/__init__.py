"""Reviews in, batches out."""

from .batches import TokenisedReviews, pieces, tokenise, training_batches
from .embedded import EMBEDDED, encoder_folder, reviews_file
from .reviews import Reviews, load_reviews

__all__ = [
    "EMBEDDED",
    "Reviews",
    "TokenisedReviews",
    "encoder_folder",
    "load_reviews",
    "pieces",
    "reviews_file",
    "tokenise",
    "training_batches",
]
