"""To and from other libraries' formats: peft, and transformers for what its classes have.

peft reads adapter_config.json and adapter_model.safetensors, head included; transformers a folder
that `pipeline("text-classification", model=folder)` loads, with updates merged.
"""

import copy
import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from boundary import BadInput, reading, replacing, write

from .architectures import architecture_of
from .base import PeftModel
from .lora import LoRAModel
from .merging import merge
from .methods import method_of

PREFIX = "base_model.model."  # peft's, before every name
TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

# Of adapter_config.json: options that are read, that change nothing in a trained LoRA, or that show
# in the names of its tensors. These must have one of some values, and all others must be off.
READ_OR_HARMLESS = {
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "modules_to_save"),
    *("base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version"),
    *("auto_mapping", "exclude_modules", "eva_config", "layers_to_transform", "layers_pattern"),
    *("megatron_core", "qalora_group_size"),
}
SUPPORTED = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # These leave the base model's weights as they are; PiSSA, OLoRA, LoftQ and others do not.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}


def export_transformers(model: PeftModel, folder: Path) -> None:
    """A folder that transformers loads without this package; updates are merged, in a copy.

    Raises `BadInput` for adapters and whatever else adds weights to the architecture.
    """
    _check_pooling(model, "transformers")
    merged = copy.deepcopy(model)
    merge(merged)
    with torch.device("meta"):
        plain = type(model.pretrained)(model.pretrained.config)
    if merged.pretrained.state_dict().keys() != plain.state_dict().keys():
        raise BadInput(
            f"transformers has no class with the weights that {method_of(model)} adds; keep the "
            "checkpoint"
        )
    merged.pretrained.config.problem_type = "single_label_classification"  # else a base's own
    merged.pretrained.save_pretrained(folder)
    for name in (TENSORS, CONFIG):  # of an earlier export: transformers would put them on top
        (folder / name).unlink(missing_ok=True)


def export_peft(model: PeftModel, folder: Path) -> None:
    """What peft loads, head included, on the base model's hub name or folder.

    It has no place for the labels (docs/your-own.md). Raises `BadInput` for a method that peft has
    no form for.
    """
    _check_pooling(model, "peft")
    config, tensors = model.to_peft()
    if not config["target_modules"]:
        raise BadInput("no layer is adapted (merged, or blocks=0), which peft refuses")
    config |= {
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": model.pretrained.config._name_or_path,
        "inference_mode": True,
        "modules_to_save": list(model.architecture.head),
    }
    trained = model.trainable_parameters().items()
    tensors |= {name: p for name, p in trained if model.architecture.in_head(name)}
    tensors = {PREFIX + name: p.detach().cpu().contiguous() for name, p in tensors.items()}
    with replacing(folder / TENSORS) as file:
        save_file(tensors, file, metadata={"format": "pt"})
    write(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def _check_pooling(model, library):
    if model.pooling != "first":
        raise BadInput(
            f"{library} has no form for POOLING {model.pooling!r}, only for 'first', which its "
            "own classifier reads; keep the checkpoint"
        )


def import_peft(pretrained: PreTrainedModel, folder: Path) -> LoRAModel:
    """A LoRA that peft trained on `pretrained` and saved to `folder`, as this package's class.

    Raises `BadInput` that names what is not supported: another method than LoRA, an option
    that changes its equation or its base model, targets that are not the same known linear layers
    in each of the last blocks.
    """
    with reading(f"the LoRA in {folder}", "expected a folder that peft's save_pretrained wrote"):
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        for option, value in config.items():
            supported = SUPPORTED.get(option, (None, False, [], {}))
            if option not in READ_OR_HARMLESS and value not in supported:
                raise BadInput(f"{folder} has {option} = {value!r}, which is not supported")
        stored = {
            re.sub(r"(\.lora_[AB])\.weight$", r"\1", name.removeprefix(PREFIX)): tensor
            for name, tensor in load_file(folder / TENSORS).items()
        }
        targets, blocks = _targets(pretrained, stored)
        model = LoRAModel(
            pretrained,
            rank=config["r"],
            alpha=config["lora_alpha"],
            dropout=config["lora_dropout"],
            targets=targets,
            rslora=config.get("use_rslora", False),
            blocks=blocks,
        )
        # What peft was not told to train of the head, such as BERT's pooler, is the base model's;
        # unless that has none: then it was random in training.
        random = getattr(pretrained, "new_tensors", ())
        trained = model.trainable_parameters().items()
        base = {n: p for n, p in trained if model.architecture.in_head(n) and n not in random}
        model.load_trained(base | stored, folder)
    return model


def _targets(pretrained, stored):
    """The short names of the last block's layers that have a LoRA, and how many blocks have any."""
    row = architecture_of(pretrained.config)
    last = len(pretrained.get_submodule(row.blocks)) - 1
    places = [f"{row.blocks}.{i}." for i in range(last + 1)]
    adapted = [name.removesuffix(".lora_A") for name in stored if name.endswith(".lora_A")]
    targets = tuple(t for t, path in row.projections.items() if places[last] + path in adapted)
    if not targets:
        raise BadInput(f"no LoRA in the last block on any of {', '.join(row.projections)}")
    count = sum(any(name.startswith(place) for name in adapted) for place in places)
    return targets, None if count > last else count
