"""Head-only fine-tuning: the encoder stays as it is, the head learns.

    tokens --> [ frozen encoder ] --> features (N, d) --> dense --> f --> classifier --> logits
                                                          trained         trained        (N, C)

The last two layers are DistilBERT's `pre_classifier`, f = ReLU and `classifier`, BERT's pooler,
f = tanh, and classifier; with the pooling "layers" the head is one layer (pooling.py). No weight
of the encoder is trained, so all of it runs once for each text, without dropout.
"""

from .base import PeftModel


class HeadOnlyModel(PeftModel):
    """Train the classification head alone."""

    def adapt(self) -> None:
        """Nothing to add: every method trains the head."""
