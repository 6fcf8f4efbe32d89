"""The constants of finetuning.py: presets, the command line before them, methods with variants."""

import json
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

import finetuning
from boundary import BadInput
from experiment import Presets, parse
from modeling import METHODS, PeftModel

RESULTS = Path(__file__).parents[1] / "docs" / "results"
FILES = RESULTS.glob("*/experiment.json")  # but for a study of another program
COMMANDS = sorted(file.parent.name for file in FILES if "finetuning.py" in file.read_text())
for file in sorted(RESULTS.glob("*.tar.xz")):
    with tarfile.open(file) as archive:
        names = [Path(name) for name in archive.getnames()]
    COMMANDS += sorted(path.parent.name for path in names if path.name == "experiment.json")


def settings(*arguments):
    return parse(vars(finetuning), list(arguments))


def texts(*methods, more=()):
    return [method.text for method in settings("--methods", *methods, *more).methods]


def test_a_preset_chooses_values_and_the_command_line_goes_before_them(monkeypatch):
    quick, full = settings("--preset", "quick"), settings("--preset", "full")
    assert quick.model == "minilm" and full.model.startswith("distilbert/")
    assert full.seeds == (0, 1, 2) and full.max_tokens == 512 and full.labels is None
    here = settings()
    assert here.preset == here.experiment == ("full" if torch.cuda.is_available() else "quick")
    given = settings("--labels", "all", "--seeds", "4", "5", "--learning-rates", "lora=0.5,0.1")
    assert given.labels is None and given.seeds == (4, 5)
    assert given.learning_rates["lora"] == (0.5, 0.1)
    assert given.learning_rates["head"] == quick.learning_rates["head"]
    earlier = ["--learning-rates", "lora=0.5", "head=7"]
    twice = settings(*earlier, "--learning-rates", "head=0.1,1")
    assert twice.learning_rates == quick.learning_rates | {"lora": (0.5,), "head": (0.1, 1.0)}
    monkeypatch.setattr(finetuning, "PRESET", "full")
    monkeypatch.setattr(finetuning, "EPOCHS", 9)
    assert settings().max_tokens == 512 and settings().epochs == 9
    assert settings("--preset", "quick").epochs == 9


@pytest.mark.parametrize("cuda", [False, True])
def test_a_command_says_its_preset_and_gives_the_same_on_any_machine(cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    chosen = "full" if cuda else "quick"
    assert settings("--epochs", "2").command.split()[2:] == ["--preset", chosen, "--epochs", "2"]
    given = ["--preset", "full", "--experiment", "quick", "--fresh"]
    assert settings(*given).max_tokens == 512  # the name of an experiment is only a name
    assert settings(*given).command.split()[2:] == given[:-1]


def test_ones_own_data_is_used_whole_in_folds_whatever_the_preset(tmp_path, monkeypatch):
    file = tmp_path / "my tickets.csv"
    file.touch()
    own = settings("--dataset", str(file))
    assert (own.preset, own.experiment, own.folds) == ("own", "my tickets", 5)
    full = settings("--dataset", str(file), "--preset", "full")
    for given in (own, full):
        assert given.labels is None is given.test_examples and given.seeds == (0, 1, 2, 3, 4)
    assert full.max_tokens == 512 and full.experiment == "my tickets"
    assert settings("--dataset", str(file), "--labels", "50").labels == 50
    assert settings("--dataset", str(file), "--folds", "3").seeds == (0, 1, 2)
    assert settings("--dataset", str(file), "--folds", "3", "--seeds", "1").seeds == (1,)
    assert settings("--dataset", "absent.csv").preset == "own"
    monkeypatch.chdir(tmp_path)
    assert settings("--dataset", ".").experiment == tmp_path.name
    assert settings("--dataset", "..").experiment == tmp_path.parent.name
    hub = settings("--dataset", "owner/data-v1.1", "--preset", "full")
    assert (hub.experiment, hub.labels, hub.folds) == ("data-v1.1", None, 5)
    assert settings("--dataset", "owner/data").preset == "own"
    for given in (["--preset", "own"], []):  # a task in folds, too
        assert settings("--dataset", "imdb", *given, "--folds", "7").seeds == (*range(7),)
        assert settings(*given, "--folds", "7").seeds == (*range(7),)  # the preset's task
    assert settings("--dataset", "r8", "--folds", "7").seeds == (0,)  # it has a test: no folds
    for name in ("imdb", "stanfordnlp/imdb"):  # a task, and a preset's
        assert settings("--dataset", name).preset != "own"


def test_command_line_help_names_every_constant_with_its_comment_and_value(capsys):
    with pytest.raises(SystemExit, match="^0$"):
        finetuning.main(["--help"])
    text = capsys.readouterr().out
    constants = [name for name in vars(finetuning) if name.isupper()]
    assert len(constants) >= 25
    assert all("--" + name.lower().replace("_", "-") in text for name in constants)
    for part in ("scaled by alpha / r (32)", "(full: 512, quick: 128, own: 128)"):
        assert part in " ".join(text.split())


def test_a_variant_has_the_constants_values_but_for_what_it_gives():
    given = ("--lora-rank", "8", "--adapter-bottleneck", "32", "--learning-rates", "lora=0.5,1")
    given += ("--blocks", "2")
    methods = ["lora(rank=4, targets=['q'])", "adapter", "head", "full(learning_rate=1e-5)"]
    lora, adapter, head, full = settings("--methods", *methods, *given).methods
    expected = {"rank": 4, "alpha": 32, "dropout": 0.0, "targets": ("q",), "rslora": False}
    assert lora.hyperparameters == expected | {"blocks": 2, "learning_rate": (0.5, 1.0)}
    assert lora.text == "lora(rank=4, targets=('q',))"
    rates = finetuning.LEARNING_RATES
    expected = {"bottleneck": 32, "blocks": 2, "learning_rate": rates["adapter"]}
    assert adapter.hyperparameters == expected
    assert head.hyperparameters == {"learning_rate": rates["head"]}
    assert full.learning_rates == (1e-5,) and full.text == "full(learning_rate=1e-05)"


@pytest.mark.parametrize(
    ("option", "values", "words"),
    [
        ("methods", ["lora", "lora"], "--methods is ('lora', 'lora'); each may be there once"),
        ("methods", ["lora(labels=2)"], "in 'lora(labels=2)' labels is 2; it should be less tha"),
        ("methods", ["lora(rank='x')"], "rank is 'x'; it should be a valid integer"),
        ("methods", ["full(blocks=True)"], "blocks is True; it should be a valid integer"),
        ("methods", ["lora(targets='q')"], "targets is 'q'; it should be a valid tuple"),
        ("methods", ["lora(rslora='no')+tfidf"], "rslora is 'no'; it should be a valid boolean"),
        ("preset", ["fast"], "PRESET is 'fast'; choose from full, quick, own"),
        ("contrasts", ["lora - lora()"], "it should be two methods, such as 'lora - probe'"),
        ("learning-rates", ["tfidf=0.1"], "LEARNING_RATES has the unknown method 'tfidf'"),
        ("learning-rates", ["lora=0.1", "lora=1"], "--learning-rates has 'lora' twice; give all"),
        ("blocks", ["1.5"], "--blocks is '1.5'; it should be a valid integer"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_was_expected(option, values, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        settings(f"--{option}", *values)


def test_a_method_of_ones_own_has_the_defaults_of_its_adapt_and_its_own_constants(monkeypatch):
    class Mine(PeftModel):
        def adapt(self, k: int = 3, warmup: float = 0.5, blocks: int | None = None) -> None:
            """Nothing."""

    monkeypatch.setitem(METHODS, "mine", Mine)
    given = ("--learning-rates", "mine=0.1", "--blocks", "2")
    both = settings("--methods", "mine", "mine(k=-5)", *given)
    mine, other = both.methods
    assert mine.hyperparameters == {"k": 3, "warmup": 0.5, "blocks": 2, "learning_rate": (0.1,)}
    assert other.hyperparameters == mine.hyperparameters | {"k": -5}
    assert "WARMUP" in both.shared_constants()

    Mine.learning_rate = 0.1, 0.2
    assert settings("--methods", "mine").methods[0].learning_rates == (0.1, 0.2)


def test_lists_ranges_and_numpys_numbers_are_taken_as_tuples_and_numbers():
    values = {"SEEDS": range(3), "METHODS": ["head"], "LORA_RANK": np.int64(4)}
    values |= {"LEARNING_RATES": {"head": [1e-3], "lora": 0.1, "adapter": np.array([0.1, 1])}}
    given = parse(vars(finetuning) | values, [])
    assert given.seeds == (0, 1, 2) and given.lora_rank == 4
    assert [method.text for method in given.methods] == ["head"]
    assert given.learning_rates == {"head": (1e-3,), "lora": (0.1,), "adapter": (0.1, 1.0)}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LORA_RNK", 4, "sets LORA_RNK: no constant"),
        ("EPOCHS", None, "finetuning.py has no EPOCHS"),  # deleted
        ("SEEDS", (0, -1), r"^SEEDS\b.* is .*; "),
        ("METHODS", (), "^METHODS is .*; "),
        ("METHODS", ("lora"), "^METHODS is 'lora'; it should be .*a comma after it"),
        ("LEARNING_RATES", {"head": "fast", "lora": 1e-3}, r"^LEARNING_RATES\b.* is .*; "),
        ("EXPERIMENT", "a/b", "^EXPERIMENT is .*; "),
        ("LORA_TARGETS", ("q", "q"), "^LORA_TARGETS is .*; "),
    ],
)
def test_a_constant_that_is_misspelt_deleted_or_of_the_wrong_kind_is_named(name, value, words):
    values = vars(finetuning) | {name: value}
    if value is None:
        del values[name]
    with pytest.raises(ValueError, match=words):
        parse(values, [])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_committed_command_gives_the_constants_beside_it(command, evidence):
    about = json.loads((evidence(command) / "experiment.json").read_text())
    commands = about["command"].split(" && ")
    _, program, *arguments = shlex.split(commands[-1])
    if arguments[1] == "base":
        pytest.skip("a preset of its commit, which has left")
    given = parse(vars(finetuning), arguments).constants()
    assert program.endswith("finetuning.py") and arguments[0] == "--preset"
    both = ("methods", "seeds") if len(commands) > 1 else ()  # those of all commands
    expected = {k: v for k, v in about["constants"].items() if k in given and k not in both}
    rates = expected["learning_rates"]
    given["learning_rates"] = {name: given["learning_rates"][name] for name in rates}
    assert {k: given[k] for k in expected} == expected


def test_ones_own_file_is_no_value_of_a_single_preset(monkeypatch):
    dataset = Presets(full="imdb", quick="imdb", own="tickets.csv")
    monkeypatch.setattr(finetuning, "DATASET", dataset)
    with pytest.raises(BadInput, match="for one preset; write DATASET = 'tickets.csv'"):
        settings()


def test_none_has_its_words_but_for_columns():
    assert settings("--group-column", "own").group_column == "own"
    assert settings("--group-column", "none").group_column is None
    assert settings("--folds", "None").folds is None
    assert settings("--labels", "all").labels is None is settings("--blocks", "None").blocks
    assert settings("--blocks", "0").blocks == 0


def test_the_command_that_resumes_does_not_start_over_and_finds_the_program(monkeypatch, tmp_path):
    given = ["--preset=quick", "--experiment", "a b", "--methods", "lora(rank=4)", "--fresh"]
    assert settings(*given).fresh
    expected = 'python finetuning.py --preset=quick --experiment "a b" --methods "lora(rank=4)"'
    assert settings(*given).command == expected
    monkeypatch.chdir(tmp_path)
    program = Path(settings(*given).command.split()[1])
    assert program.resolve() == Path(finetuning.__file__).resolve()


@pytest.mark.parametrize("method", ["lora(labels=0.5)", "probe+tfidf(labels = 0.5)"])
def test_a_final_model_has_all_labels(method):
    with pytest.raises(BadInput, match="a final model learns all texts; leave labels= out"):
        settings("--dataset", "tickets.csv", "--final", method)
