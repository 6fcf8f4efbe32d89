"""How an experiment was made, and the command that reproduces it."""

import json

from .markdown import escape, table


def reproduce(experiment: dict) -> str:
    """The page's last section: the command, the machine, the versions and every constant."""
    values = experiment["constants"].values()
    columns = {"constant": [name.upper() for name in experiment["constants"]]}
    columns["value"] = [escape(json.dumps(value, ensure_ascii=False)) for value in values]
    constants = table(columns)
    notes = [f"- {escape(note)}" for note in experiment["data"].get("notes", ())]
    parts = [
        f"    {experiment['command']}",
        "\n".join(notes + [f"- {line}" for line in _machine(experiment)]),
        f"<details>\n<summary>Every constant</summary>\n\n{constants}\n\n</details>",
        "The figures and this page, from the files alone: `python -m evaluation.report` and this "
        "folder.",
    ]
    return "\n\n".join(part for part in parts if part)


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
