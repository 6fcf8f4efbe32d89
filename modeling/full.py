"""Full fine-tuning: every weight learns. The row that the methods are compared with."""

from .base import PeftModel


class FullModel(PeftModel):
    """Train all parameters."""

    def adapt(self) -> None:
        """Unfreeze everything."""
        self.pretrained.requires_grad_(True)
