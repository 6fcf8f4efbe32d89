"""A method as one types it: read, written, refused, and built; also combinations and one's own."""

import re

import numpy as np
import pytest
from conftest import tiny

from boundary import BadInput
from modeling import METHODS, Method, PeftModel
from modeling.methods import method_of

CONSTANTS = {
    "head": {"learning_rate": 1e-3},
    "adapter": {"bottleneck": 4, "learning_rate": 3e-4},
    "lora": {"rank": 2, "alpha": 4, "targets": ("q", "v"), "rslora": False, "learning_rate": 3e-4},
    "bitfit": {"learning_rate": 1e-3},
    "full": {"learning_rate": 1e-4},
}


def parse(text):
    return Method.parse(text, CONSTANTS)


def test_a_learning_rate_is_one_candidate_or_several():
    for text, rates in {"1e-3": (1e-3,), "(1e-3, 3e-3)": (1e-3, 3e-3), "[0.1]": (0.1,)}.items():
        assert parse(f"lora(learning_rate={text})").learning_rates == rates
    several = Method.parse("lora", {"lora": {"learning_rate": (1e-3, 3e-3)}})
    assert several.learning_rates == (1e-3, 3e-3)


@pytest.mark.parametrize("rate", ["'1e-3'", "0", "1e999", "True", "()", "(1e-3, 'x')", "(1, 1)"])
def test_a_learning_rate_that_is_no_number_above_0_is_refused(rate):
    with pytest.raises(BadInput, match=r"the learning rate is .*; expected a number above 0"):
        parse(f"lora(learning_rate={rate})")


def test_no_two_values_share_a_folder():
    values = ["a b", "a_b", "a/b", "a+b", ("a", "b"), "a%20b", 1, 1.5, None, "é", ("a",), "a"]
    values += ["1", "1.5", "None", "True", True, "inf", float("inf"), "'1'", "(1,)", (1,), (), ""]
    names = [Method("mine", {"way": value}, ("way",)).file_name for value in values]
    assert len(set(names)) == len(values)
    assert all(re.fullmatch("[A-Za-z0-9.+_=%~-]+", name) for name in names)
    assert parse("lora(rank=4, targets=('q', 'v'))").file_name == "lora-rank=4-targets=q+v"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lorra", "unknown method 'lorra'; choose from head, adapter, lora"),
        ("lora(rnk=4)", "lora has no hyperparameter 'rnk'; choose from rank, alpha"),
        ("tfidf(rank=4)", "tfidf has no hyperparameter 'rank'; choose from labels"),
        ("lora(4)", "expected a name, or a name and its hyperparameters"),
        ("lora(rank=4, rank=5)", "expected a name, or a name and its hyperparameters"),
        ("lora(**{'rank': 4})", "lora has no hyperparameter None"),
        ("lora(rank=", "expected a name"),
        ("lora-tfidf", "expected a name"),
        ("lora+words", "unknown method 'words'"),
        ("lora+tfidf+lora", "has a method twice"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_choices(text, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        parse(text)


@pytest.mark.parametrize(
    ("typed", "text", "file_name"),
    [
        ("lora+tfidf", "lora+tfidf", "lora+tfidf"),
        ("tfidf + probe", "probe+tfidf", "probe+tfidf"),
        ("lora(rank=4)+probe+head", "head+lora(rank=4)+probe", "head+lora-rank=4+probe"),
        ("lora(targets=['q'])+tfidf", "lora(targets=('q',))+tfidf", "lora-targets=q,+tfidf"),
    ],
)
def test_a_combination_has_its_parts_whatever_their_order(typed, text, file_name):
    method = parse(typed)
    assert (method.text, method.file_name) == (text, file_name)
    assert method.parts and not method.is_baseline and method.learning_rates == ()
    assert method.parts == tuple(parse(part) for part in text.split("+"))
    assert method.hyperparameters == {part.text: part.hyperparameters for part in method.parts}
    assert parse(method.text) == method


THREE = np.int64(3)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"learning_rate": -1}, "the learning rate of Mine is -1; expected a number above 0"),
        ({"adapt": lambda self, k=THREE: None}, "'k' of Mine.adapt has no default that is a numb"),
        ({"adapt": lambda self, k: None}, "'k' of Mine.adapt has no default that is a number"),
        ({"adapt": lambda self, labels=2: None}, "'labels' of Mine.adapt: every method can be giv"),
    ],
)
def test_values_of_ones_own_that_cannot_be_kept_are_one_line(monkeypatch, body, line):
    monkeypatch.setitem(METHODS, "mine", type("Mine", (PeftModel,), body))
    with pytest.raises(BadInput, match=line):
        Method.parse("mine", {})


def test_an_error_in_ones_own_adapt_is_one_line(monkeypatch):
    body = {"adapt": lambda self: self.last_blocks(1)[0].nothing}
    monkeypatch.setitem(METHODS, "mine", type("Mine", (PeftModel,), body))
    line = "the model cannot be adapted by mine .*has no attribute 'nothing'.*; --traceback shows"
    with pytest.raises(BadInput, match=line):
        parse("mine").build(tiny())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_built_with_its_hyperparameters(name):
    model = parse(name).build(tiny())
    assert type(model) is METHODS[name] and method_of(model) == name
    given = {k: v for k, v in CONSTANTS.get(name, {}).items() if k != "learning_rate"}
    assert given.items() <= model.hyperparameters.items()
