"""The model card beside an exported model: README.md, as the Hugging Face hub reads it."""

from pathlib import Path

from huggingface_hub import ModelCardData
from transformers import PreTrainedTokenizerBase

from records import RunRecord

from .base import PeftModel
from .methods import method_of

LOAD = {
    "peft": "peft.AutoPeftModelForSequenceClassification.from_pretrained(folder, {})",
    "transformers": 'transformers.pipeline("text-classification", model=folder, truncation=True)',
}


def model_card(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, run: Path | None, library: str
) -> str:
    """The text of README.md for the hub's `library_name`, "peft" or "transformers".

    `run`: the folder of the run that trained it, if it is known. Raises `BadInput` where its
    run.json is damaged.
    """
    config, name, tested = model.pretrained.config, method_of(model), {}
    base, labels = config._name_or_path, config.id2label
    file = run and run / "run.json"
    record = RunRecord.read(file) if file and file.exists() else None
    if record and record.is_finished:
        base, accuracy = record.model, f"{record.test_accuracy:.1%}, on its test texts"
        training = f"learning rate {record.learning_rate:g}, seed {record.seed}"
        tested = {"Data set": record.data_set, "Training": training, "Test accuracy": accuracy}
    if Path(base).is_dir():  # a path tells others nothing, and may hold a user's name
        base = Path(base).name
    options = f"id2label={labels}, pad_token_id={config.pad_token_id}"
    end = {"left": "last", "right": "first"}[tokenizer.truncation_side]
    rows = {
        "Base model": base,
        "Method": name,
        "Hyperparameters": ", ".join(f"{k} = {v}" for k, v in model.hyperparameters.items()),
        "Labels": ", ".join(labels.values()),
        "Length": f"at most {tokenizer.model_max_length:,} tokens; a longer text keeps its {end}",
        **tested,
        "Load": f"`{LOAD[library].format(options)}`",
        "Licence": "not chosen; those of the base model and of the data set limit it",
    }
    tags = [name, "parameter-efficient-fine-tuning"]
    task = "text-classification"
    data = ModelCardData(base_model=base, library_name=library, pipeline_tag=task, tags=tags)
    lines = "\n".join(f"- **{row}**: {text}" for row, text in rows.items())
    return f"---\n{data.to_yaml()}\n---\n\n# {base}, fine-tuned with {name}\n\n{lines}\n"
