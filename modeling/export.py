"""To and from other libraries' formats: peft for LoRA, transformers for all but adapters.

peft reads adapter_config.json and adapter_model.safetensors, head included; transformers a folder
that `pipeline("text-classification", model=folder)` loads, LoRA merged.
"""

import copy
import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from .architectures import architecture_of
from .base import PeftModel
from .checkpoint import copy_tensors
from .lora import LoRAModel
from .methods import method_of

PREFIX = "base_model.model."  # peft's, before every name


def export_transformers(model: PeftModel, folder: Path) -> None:
    """A folder that transformers loads without this package; LoRA is merged, in a copy.

    Raises `ValueError` for adapters and whatever else adds weights to the architecture.
    """
    merged = copy.deepcopy(model)
    if isinstance(merged, LoRAModel):
        merged.fold()
    with torch.device("meta"):
        plain = type(model.pretrained)(model.pretrained.config)
    if merged.pretrained.state_dict().keys() != plain.state_dict().keys():
        raise ValueError(
            f"transformers has no class with the weights that {method_of(model)} adds; keep the "
            "checkpoint"
        )
    folder.mkdir(parents=True, exist_ok=True)
    merged.pretrained.save_pretrained(folder)


def export_peft(model: PeftModel, folder: Path) -> None:
    """A LoRA that peft loads, head included, on the base model's hub name or folder.

    Raises `ValueError` for other methods.
    """
    if not isinstance(model, LoRAModel):
        raise ValueError(f"peft has no form for {type(model).__name__}; only LoRA can go there")
    choice = model.hyperparameters
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": model.pretrained.config._name_or_path,
        "inference_mode": True,
        "r": choice["rank"],
        "lora_alpha": choice["alpha"],
        "lora_dropout": choice["dropout"],
        "use_rslora": choice["rslora"],
        "bias": "none",
        "target_modules": list(model.lora_layers()),
        "modules_to_save": list(model.architecture.head),
    }
    tensors = {}
    for name, parameter in model.trainable_parameters().items():
        name = f"{name}.weight" if name.endswith((".lora_A", ".lora_B")) else name
        tensors[PREFIX + name] = parameter.detach().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


UNSUPPORTED = (  # peft's LoRA options that change the equation
    *("use_dora", "fan_in_fan_out", "bias", "rank_pattern", "alpha_pattern", "layers_to_transform"),
    *("layer_replication", "target_parameters", "trainable_token_indices"),
)


def import_peft(pretrained: PreTrainedModel, folder: Path) -> LoRAModel:
    """A LoRA that peft trained on `pretrained` and saved to `folder`, as this package's class.

    Raises `ValueError` that names what is not supported: another method than LoRA, an option
    that changes its equation, targets that are not the same known linear layers in each block.
    """
    choice = json.loads((folder / "adapter_config.json").read_text())
    if choice["peft_type"] != "LORA":
        raise ValueError(f"{folder} holds {choice['peft_type']}; only LORA can be loaded")
    for option in UNSUPPORTED:
        if choice.get(option) and choice[option] != "none":
            raise ValueError(f"{folder} has {option} = {choice[option]}, which is not supported")
    stored = {
        re.sub(r"(\.lora_[AB])\.weight$", r"\1", name.removeprefix(PREFIX)): tensor
        for name, tensor in load_file(folder / "adapter_model.safetensors").items()
    }
    model = LoRAModel(
        pretrained,
        rank=choice["r"],
        alpha=choice["lora_alpha"],
        dropout=choice["lora_dropout"],
        targets=_targets(pretrained, stored, folder),
        rslora=bool(choice.get("use_rslora")),
    )
    trained = model.trainable_parameters()
    for name in trained.keys() - stored.keys():
        # A part of the head that peft was not told to train (BERT's pooler) is the base model's.
        if ".lora_" not in name and not name.startswith(("classifier.", "score.")):
            stored[name] = trained[name].detach()
    copy_tensors(model, stored, str(folder))
    return model


def _targets(pretrained, stored, folder):
    """The short names of the layers that the tensors adapt, the same in every block."""
    architecture = architecture_of(pretrained.config)
    blocks, projections = architecture.blocks, architecture.projections
    found = {name.removesuffix(".lora_A") for name in stored if name.endswith(".lora_A")}
    targets = tuple(t for t, path in projections.items() if f"{blocks}.0.{path}" in found)
    count = len(pretrained.get_submodule(blocks))
    expected = {f"{blocks}.{i}.{projections[t]}" for t in targets for i in range(count)}
    if found != expected:
        known, first = ", ".join(projections), min(found ^ expected)
        raise ValueError(f"{folder} does not adapt a choice of {known} in every block: see {first}")
    return targets
