"""Head-only fine-tuning: the encoder stays as it is, the head learns.

    tokens --> [ frozen encoder ] --> features (N, d) --> dense --> f --> classifier --> logits
                                                          trained         trained        (N, C)

The head has two layers: in DistilBERT `pre_classifier`, f = ReLU, and `classifier`; in BERT the
pooler, f = tanh, and `classifier`. Decoders have one layer, `score`; the pooling "layers" has
one too (pooling.py). The encoder is frozen and without dropout, so its output for a text can be
stored.
"""

from .base import PeftModel


class HeadOnlyModel(PeftModel):
    """Train the classification head alone."""

    def adapt(self) -> None:
        """Nothing to add: every method trains the head."""
