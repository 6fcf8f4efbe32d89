"""What do the mistakes of popular implementations cost? One change at a time, against ours.

    python -m studies.broken         results/broken, an hour of two cores

Any option of finetuning.py may follow; the same command resumes. One mistake is a learning rate,
so it is a variant of our method; the other mistakes are methods of this study alone. Each method
has its own learning rates to choose from, so that a rate that suits ours does not make a mistake
worse.
"""

import sys
from functools import wraps

from torch import nn
from torch.nn import functional as F

import finetuning
from experiment import run_experiment
from modeling import METHODS
from modeling.adapter import AdapterModel, BottleneckAdapter
from modeling.lora import LoRAModel
from modeling.merging import adapted_layers


class FrozenHeadLoRA(LoRAModel):
    """LoRA with a new head that stays frozen, at its random start."""

    def __init__(self, pretrained, pooling="first", **hyperparameters):
        super().__init__(pretrained, pooling, **hyperparameters)
        for name, parameter in pretrained.named_parameters():
            if self.architecture.in_head(name):
                parameter.requires_grad_(False)
        if pooling == "layers":  # it starts at zero, which would give the blocks no gradient
            nn.init.normal_(pretrained.layers_head.linear.weight, std=0.02)


class NormalLoRA(LoRAModel):
    """LoRA whose A is drawn from N(0, 1), instead of about N(0, 1 / (3 d_in))."""

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
    """Adapters that replace a sublayer's output, instead of adding to it."""

    @wraps(AdapterModel.adapt)
    def adapt(self, **hyperparameters):
        super().adapt(**hyperparameters)
        for module in self.pretrained.modules():
            if isinstance(module, BottleneckAdapter):
                module.__class__ = AdapterWithoutResidual


class FrozenNormAdapters(AdapterModel):
    """Adapters in blocks whose LayerNorms stay frozen."""

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
CONSTANTS = {  # they replace finetuning.py's
    "PRESET": "quick",
    "EXPERIMENT": "broken",
    "DATASET": "rotten-tomatoes",
    "LABELS": 300,
    "MAX_TOKENS": 64,
    "SEEDS": (0, 1, 2, 3, 4),
    "METHODS": (*PAIRS, *(wrong for mistakes in PAIRS.values() for wrong in mistakes)),
    "CONTRASTS": tuple(f"{right} - {wrong}" for right in PAIRS for wrong in PAIRS[right]),
    "LEARNING_RATES": {
        "lora": (3e-4, 1e-3, 3e-3),
        "lora_normal": (1e-4, 3e-4, 1e-3),
        "lora_frozen_head": (1e-3, 3e-3, 1e-2),
        "adapter": (3e-4, 1e-3, 3e-3),
        "adapter_no_residual": (1e-3, 3e-3, 1e-2),
        "adapter_frozen_norms": (3e-4, 1e-3, 3e-3),
    },
}
LOOP = finetuning.train, finetuning.evaluate
PROGRAM = "-m", "studies.broken"


def main(arguments: list[str]) -> int:
    """Run the experiment with the mistakes among the methods; returns the exit status."""
    METHODS.update(MISTAKES)
    constants = vars(finetuning) | CONSTANTS
    return run_experiment(constants, arguments, LOOP, program=PROGRAM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
