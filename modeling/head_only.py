"""Head-only fine-tuning: the encoder stays as it is, the head learns.

    tokens --> [ frozen encoder ] --> features (N, d) --> dense --> f --> classifier --> logits
                                                          trained         trained        (N, C)

The last two layers are DistilBERT's `pre_classifier`, f = ReLU and `classifier`, BERT's pooler,
f = tanh, and classifier; the head that reads "layers" is one layer (pooling.py). Since nothing
inside the encoder learns, all of it runs once for each review, without dropout.
"""

from .base import PeftModel


class HeadOnlyModel(PeftModel):
    """Train the classification head alone."""

    def adapt(self) -> None:
        """Nothing to add: every method trains the head."""
