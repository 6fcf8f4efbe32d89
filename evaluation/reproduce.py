"""How an experiment was made, and the command that reproduces it."""

import json
import shlex

from .markdown import escape, table

NONE = {"encoder_dropout": "own", "micro_batch_tokens": "auto"}  # None, as one types it; else "all"


def reproduce(experiment: dict) -> str:
    """The page's last section: the command, the machine, the versions and every constant."""
    command = experiment.get("command") or command_line(experiment["constants"])
    values = experiment["constants"].values()
    columns = {"constant": [name.upper() for name in experiment["constants"]]}
    columns["value"] = [escape(json.dumps(value, ensure_ascii=False)) for value in values]
    constants = table(columns)
    notes = [f"- {escape(note)}" for note in experiment["data"].get("notes", ())]
    parts = [
        "\n".join(f"    {line}" for line in command.splitlines()),
        "\n".join(notes + [f"- {line}" for line in _machine(experiment)]),
        f"<details>\n<summary>Every constant</summary>\n\n{constants}\n\n</details>",
        "The figures and this page, from the files alone: `python -m evaluation.report` and this "
        "folder.",
    ]
    return "\n\n".join(part for part in parts if part)


def command_line(constants: dict) -> str:
    """The command that gives every one of an experiment's constants."""
    lines = ["python finetuning.py"]
    for name, value in constants.items():
        option = " ".join(map(shlex.quote, _option(name, value)))
        if len(lines[-1]) + len(option) > 92:
            lines.append("   ")
        lines[-1] += f" {option}"
    return " \\\n".join(lines)


def _option(name, value):
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, dict):
        return [flag, *(f"{key}={item}" for key, item in value.items())]
    if isinstance(value, list | tuple):
        return [flag, *map(str, value)]
    return [flag, NONE.get(name, "all") if value is None else str(value)]


def _machine(experiment):
    """What ran it, as far as the file tells."""
    if "libraries" in experiment:
        versions = experiment["libraries"].items()
        yield "Versions: " + ", ".join(
            [f"Python {experiment['python']}", *(f"{name} {number}" for name, number in versions)]
        )
    if "platform" in experiment:
        yield f"Platform: {escape(experiment['platform'])}"
    if experiment.get("git_commit"):
        changed = ", with changes that are not in it" if experiment.get("git_dirty") else ""
        yield f"Code: commit `{experiment['git_commit']}`{changed}"
