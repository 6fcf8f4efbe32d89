"""What do the mistakes of popular implementations cost? One change at a time, against ours.

    python -m studies.broken         results/broken, a quarter of an hour of two cores

Any option of finetuning.py may follow; the same command resumes. One mistake is a learning rate,
which is a variant; the others are methods that the package itself does not carry.
"""

import sys
from functools import wraps
from unittest import mock

from torch import nn
from torch.nn import functional as F

from modeling import methods
from modeling.adapter import AdapterModel, BottleneckAdapter
from modeling.lora import LoRAModel
from modeling.merging import adapted_layers
from studies.work import run_as


class FrozenHeadLoRA(LoRAModel):
    """LoRA around a new head that stays as it is, random."""

    def __init__(self, pretrained, pooling="first", **hyperparameters):
        super().__init__(pretrained, pooling, **hyperparameters)
        for name, parameter in pretrained.named_parameters():
            if self.architecture.in_head(name):
                parameter.requires_grad_(False)
        if pooling == "layers":  # it starts at zero, which would give the blocks no gradient
            nn.init.normal_(pretrained.layers_head.linear.weight, std=0.02)


class NormalLoRA(LoRAModel):
    """LoRA whose A is drawn from N(0, 1), in the place of about N(0, 1 / (3 d_in))."""

    @wraps(LoRAModel.adapt)
    def adapt(self, **hyperparameters):
        super().adapt(**hyperparameters)
        for layer in adapted_layers(self).values():
            nn.init.normal_(layer.lora_A)


class AdapterWithoutResidual(BottleneckAdapter):
    """W_up f(W_down h + b_down) + b_up, without h: not near the identity."""

    def forward(self, h):
        return self.up(F.gelu(self.down(h)))


class NoResidualAdapters(AdapterModel):
    """Adapters that replace what a sublayer makes."""

    @wraps(AdapterModel.adapt)
    def adapt(self, **hyperparameters):
        super().adapt(**hyperparameters)
        for module in self.pretrained.modules():
            if isinstance(module, BottleneckAdapter):
                module.__class__ = AdapterWithoutResidual


class FrozenNormAdapters(AdapterModel):
    """Adapters among LayerNorms that stay as they are."""

    @wraps(AdapterModel.adapt)
    def adapt(self, **hyperparameters):
        super().adapt(**hyperparameters)
        for block in self.blocks:
            for path in self.architecture.norms:
                block.get_submodule(path).requires_grad_(False)


MISTAKES = {
    "lora_frozen_head": FrozenHeadLoRA,
    "lora_normal": NormalLoRA,
    "adapter_no_residual": NoResidualAdapters,
    "adapter_frozen_norms": FrozenNormAdapters,
}
WRONG_RATE = "learning_rate=2e-5"
PAIRS = {
    "lora": [f"lora({WRONG_RATE})", "lora_normal", "lora_frozen_head"],
    "adapter": [f"adapter({WRONG_RATE})", "adapter_no_residual", "adapter_frozen_norms"],
}
TASK = [
    "--preset",
    "quick",
    "--dataset",
    "rotten-tomatoes",
    "--max-tokens",
    "64",
    "--labels",
    "300",
]
TASK += ["--pooling", "layers", "--evaluations-per-epoch", "3"]
RATES = {  # each the best of three or four, by the validation loss of the first seed
    **{"lora": 1e-3, "lora_normal": 3.16e-4, "lora_frozen_head": 3.16e-3},
    **{"adapter": 1e-3, "adapter_no_residual": 3.16e-3, "adapter_frozen_norms": 1e-3},
}


def main(arguments: list[str]) -> int:
    """Run the experiment with the mistakes among the methods; returns the exit status."""
    given = ["--experiment", "broken", *TASK, "--seeds", "0", "1", "2", "3", "4"]
    given += ["--methods", *PAIRS, *(wrong for mistakes in PAIRS.values() for wrong in mistakes)]
    given += ["--contrasts", *(f"{ours} - {wrong}" for ours in PAIRS for wrong in PAIRS[ours])]
    given += ["--learning-rates", *(f"{name}={rate:g}" for name, rate in RATES.items())]
    with mock.patch.dict(methods.METHODS, MISTAKES):
        return run_as("studies.broken", arguments, given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
