"""The model card that stands beside an exported model: README.md, as the Hugging Face hub reads it.

    run.json              beside the checkpoint: base model, data set, training, test accuracy
    ../experiment.json    the experiment's: how many texts, the batch size

What neither says is "not known". The interval is Wilson's (1927), at 95 %.
"""

import json
from pathlib import Path

from huggingface_hub import ModelCardData
from scipy.stats import binomtest
from transformers import PreTrainedTokenizerBase

from boundary import reading
from records import RunRecord

from .base import PeftModel
from .methods import method_of

ROWS = {
    "Base model": "{model}",
    "Method": "{name}",
    "Hyperparameters": "{choice}",
    "Training": "learning rate {learning_rate:g}, batches of {batch_size}, {epochs_run:g} epochs, "
    "seed {seed}",
    "Trained parameters": "{trainable_parameters:,} of {total_parameters:,}",
    "Labels": "{label_names}",
    "Data set": "{data_set}",
    "Labelled texts": "{train:,} for training, {validation:,} for validation",
    "Test accuracy": "{test_accuracy:.1%} (95 % Wilson interval {low:.1%} to {high:.1%}), "
    "on {test:,} test texts",
    "Length": "at most {max_tokens:,} tokens; a longer text keeps its {end} tokens",
}
LIMITS = """
## Limits

The model knows the language and the domain of its training texts, and was tested on texts of the
same data set alone. No other language, domain or length was tested. The interval says how far other
test texts would move the accuracy of this one trained model; it says nothing of another training.

## Licence

Not chosen: the user states one, which the licences of the base model and of the data set allow.
"""


def model_card(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, run: Path | None, library: str
) -> str:
    """The text of README.md for the hub's `library_name`, "peft" or "transformers".

    `run`: the folder of the run that trained it, if it is known. Raises `BadInput` where run.json
    or experiment.json is damaged.
    """
    facts = _facts(model, run) | {
        "max_tokens": tokenizer.model_max_length,
        "end": {"left": "last", "right": "first"}[tokenizer.truncation_side],
    }
    data = ModelCardData(
        base_model=facts["model"],
        library_name=library,
        pipeline_tag="text-classification",
        tags=[facts["name"], "parameter-efficient-fine-tuning"],
    )
    title = f"# {facts['model']}, fine-tuned with {facts['name']}"
    rows = "\n".join(f"- **{row}**: {_known(text, facts)}" for row, text in ROWS.items())
    return f"---\n{data.to_yaml()}\n---\n\n{title}\n\n{rows}\n{LIMITS}"


def _facts(model, run):
    config, facts = model.pretrained.config, {"model": model.pretrained.config._name_or_path}
    if run and (path := run.parent / "experiment.json").exists():
        with reading(str(path), "delete it to export without it"):
            about = json.loads(path.read_text(encoding="utf-8"))
            names = {name: about[name] for name in ("model", "data_set")}
            facts |= about["constants"] | about["data"] | names
    if run and (run / "run.json").exists():
        facts |= RunRecord.read(run / "run.json").model_dump(exclude_none=True)
    if {"test", "test_accuracy"} <= facts.keys():
        right = round(facts["test_accuracy"] * facts["test"])
        interval = binomtest(right, facts["test"]).proportion_ci(method="wilson")
        facts |= {"low": interval.low, "high": interval.high}
    if Path(facts["model"]).is_dir():  # a path tells others nothing, and may hold a user's name
        facts["model"] = Path(facts["model"]).name
    choice = model.hyperparameters | {"pooling": model.pooling}
    return facts | {
        "name": method_of(model),
        "choice": ", ".join(f"{name} = {value}" for name, value in choice.items()),
        "label_names": ", ".join(config.id2label.values()),
    }


def _known(text, facts):
    try:
        return text.format(**facts)
    except KeyError:
        return "not known"
