"""To and from other libraries' formats: peft, and transformers for what its classes have.

peft reads adapter_config.json and adapter_model.safetensors, head included; transformers a folder
that `pipeline("text-classification", model=folder)` loads, LoRA merged.
"""

import copy
import json
import re
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from boundary import BadInput, reading, replacing, write

from .architectures import architecture_of
from .base import PeftModel
from .checkpoint import copy_tensors
from .lora import LoRAModel
from .merging import fold
from .methods import method_of

PREFIX = "base_model.model."  # peft's, before every name
TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
REMEDY = "expected a folder as peft's save_pretrained leaves it"


def export_transformers(model: PeftModel, folder: Path) -> None:
    """A folder that transformers loads without this package; LoRA is merged, in a copy.

    Raises `BadInput` for adapters and whatever else adds weights to the architecture.
    """
    _check_pooling(model, "transformers")
    merged = copy.deepcopy(model)
    fold(merged)
    with torch.device("meta"):
        plain = type(model.pretrained)(model.pretrained.config)
    if merged.pretrained.state_dict().keys() != plain.state_dict().keys():
        raise BadInput(
            f"transformers has no class with the weights that {method_of(model)} adds; keep the "
            "checkpoint"
        )
    folder.mkdir(parents=True, exist_ok=True)
    merged.pretrained.save_pretrained(folder)


def export_peft(model: PeftModel, folder: Path) -> None:
    """What peft loads, head included, on the base model's hub name or folder.

    peft's folder has no place for the labels: with more than two, or to have their names, give
    `AutoPeftModelForSequenceClassification.from_pretrained` all of them, as
    id2label={0: "bad", 1: "fair", 2: "good"}. Raises `BadInput` for a method
    that peft has no form for.
    """
    _check_pooling(model, "peft")
    config, tensors = model.to_peft()
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


class _Config(BaseModel):
    """Of adapter_config.json, what a LoRA's equation depends on; all other options must be off."""

    model_config = ConfigDict(extra="allow", strict=True)

    peft_type: Literal["LORA"]
    r: int = Field(ge=1)
    lora_alpha: float = Field(allow_inf_nan=False)
    lora_dropout: float = Field(ge=0, lt=1)
    use_rslora: bool = False  # not in older versions
    bias: Literal["none"] = "none"
    # These leave the base model's weights as they are; PiSSA, OLoRA, LoftQ and others do not.
    init_lora_weights: Literal[True, False, "gaussian", "orthogonal", "eva"] = True


# What changes nothing in a trained LoRA, or shows in the names of its tensors, which are read; the
# last two serve options that must be off.
OF_NO_EFFECT = {
    *("base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version"),
    *("auto_mapping", "modules_to_save", "exclude_modules", "eva_config", "target_modules"),
    *("layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size"),
}


def import_peft(pretrained: PreTrainedModel, folder: Path) -> LoRAModel:
    """A LoRA that peft trained on `pretrained` and saved to `folder`, as this package's class.

    Raises `BadInput` that names what is not supported: another method than LoRA, an option
    that changes its equation or its base model, targets that are not the same known linear layers
    in each of the last blocks.
    """
    config = _read_config(folder / CONFIG)
    with reading(str(folder / TENSORS), REMEDY):
        stored = {
            re.sub(r"(\.lora_[AB])\.weight$", r"\1", name.removeprefix(PREFIX)): tensor
            for name, tensor in load_file(folder / TENSORS).items()
        }
    targets, blocks = _targets(pretrained, stored, folder)
    model = LoRAModel(
        pretrained,
        rank=config.r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=targets,
        rslora=config.use_rslora,
        blocks=blocks,
    )
    _complete_head(model, stored, folder)
    copy_tensors(model, stored, str(folder))
    return model


def _read_config(path):
    """What adapter_config.json says, once no option in it changes the equation or the base."""
    with reading(str(path), REMEDY):
        options = json.loads(path.read_text(encoding="utf-8"))
        try:
            config = _Config(**options)
        except ValidationError as error:
            wrong = error.errors()[0]
            option, why = wrong["loc"][0], wrong["msg"]
            raise BadInput(f"{path} has {option} = {options.get(option)!r}: {why}") from error
    for option, value in config.model_extra.items():
        if option not in OF_NO_EFFECT and value is not False and value not in (None, [], {}):
            raise BadInput(f"{path} has {option} = {value!r}, which is not supported")
    return config


def _complete_head(model, stored, folder):
    """Add to `stored` the parts of the head that peft was not told to train: BERT's pooler.

    They are the base model's, unless its files lack them too: then peft trained on random ones.
    """
    trained = model.trainable_parameters()
    random = getattr(model.pretrained, "new_tensors", ())  # see load_pretrained
    for name in sorted(trained.keys() - stored.keys()):
        if name in random:
            raise BadInput(
                f"{folder} lacks {name}, and the base model has none: it was random in training; "
                f"train again with modules_to_save = {list(model.architecture.head)}"
            )
        if ".lora_" not in name and not name.startswith(("classifier.", "score.")):
            stored[name] = trained[name].detach()


def _targets(pretrained, stored, folder):
    """The short names of the layers that the tensors adapt, and in how many of the last blocks."""
    architecture = architecture_of(pretrained.config)
    blocks, projections = architecture.blocks, architecture.projections
    found = {name.removesuffix(".lora_A") for name in stored if name.endswith(".lora_A")}
    last = len(pretrained.get_submodule(blocks)) - 1
    targets = tuple(t for t, path in projections.items() if f"{blocks}.{last}.{path}" in found)
    paths = {projections[target] for target in targets}
    count = len(found) // max(1, len(paths))
    expected = {f"{blocks}.{last - i}.{path}" for i in range(count) for path in paths}
    if found != expected or not found:
        known = ", ".join(projections)
        first = min(found ^ expected, default="no tensor of LoRA")
        raise BadInput(
            f"{folder} does not adapt the same choice of {known} in each of the last blocks: see "
            f"{first}"
        )
    return targets, None if count > last else count
