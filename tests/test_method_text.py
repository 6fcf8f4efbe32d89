"""A method as one types it: read, written, refused, and built."""

import inspect
import re

import pytest
from conftest import tiny

from modeling import BASELINES, METHODS, Method
from modeling.methods import hyperparameters_of, method_of

CONSTANTS = {
    "head": {"learning_rate": 1e-3},
    "adapter": {"bottleneck": 4, "learning_rate": 3e-4},
    "lora": {"rank": 2, "alpha": 4, "targets": ("q", "v"), "rslora": False, "learning_rate": 3e-4},
    "bitfit": {"learning_rate": 1e-3},
    "full": {"learning_rate": 1e-4},
}


def parse(text):
    return Method.parse(text, CONSTANTS)


@pytest.mark.parametrize("name", [*METHODS, *BASELINES])
def test_a_name_alone_has_the_constants_values(name):
    method = parse(name)
    assert (method.name, method.text, method.file_name) == (name, name, name)
    assert method.hyperparameters == CONSTANTS.get(name, {})
    assert method.is_baseline == (name in BASELINES)
    assert method.learning_rate == CONSTANTS.get(name, {}).get("learning_rate")


def test_what_is_given_takes_the_place_of_the_constant_and_of_no_other():
    method = parse("lora(rank=8, targets=['q'])")
    assert method.hyperparameters == CONSTANTS["lora"] | {"rank": 8, "targets": ("q",)}
    assert CONSTANTS["lora"]["rank"] == 2


@pytest.mark.parametrize(
    "text", ["lora(rank=8)", "lora(targets=('q', 'v'))", "adapter(learning_rate=0.01)", "tfidf"]
)
def test_text_is_what_was_typed_and_reads_back_as_the_same_method(text):
    assert parse(text).text == text
    assert parse(parse(text).text) == parse(text)


def test_no_two_values_share_a_folder():
    values = ["a b", "a_b", "a/b", "a+b", ("a", "b"), "a%20b", 1, 1.5, None, "é"]
    names = [Method("mine", {"way": value}, ("way",)).file_name for value in values]
    assert len(set(names)) == len(values) and not any("/" in name for name in names)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lorra", "unknown method 'lorra'; choose from head, adapter, lora"),
        ("lora(rnk=4)", "lora has no hyperparameter 'rnk'; choose from rank, alpha"),
        ("tfidf(rank=4)", "tfidf has no hyperparameter 'rank'; choose from none"),
        ("lora(4)", "expected a name, or a name and its hyperparameters"),
        ("lora(rank=4, rank=5)", "expected a name, or a name and its hyperparameters"),
        ("lora(**{'rank': 4})", "lora has no hyperparameter None"),
        ("lora(rank=", "expected a name"),
        ("lora[4]", "expected a name"),
        ("", "expected a name"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_choices(text, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        parse(text)


@pytest.mark.parametrize(
    "value", ["open('x')", "2 * 3", "rank", "__import__('os')", "[x for x in y]"]
)
def test_values_are_literals_and_nothing_is_evaluated(value):
    with pytest.raises(ValueError, match="cannot be read"):
        parse(f"lora(rank={value})")


def test_file_names_are_safe_and_differ_where_the_methods_do():
    texts = [
        *METHODS,
        *BASELINES,
        "lora(rank=4)",
        "lora(rank=8)",
        "lora(alpha=4)",
        "lora(rank=4, alpha=4)",
        "lora(targets=('q', 'v'))",
        "lora(targets=('q',))",
        "lora(dropout=0.1)",
        "lora(learning_rate=1e-05)",
        "lora(learning_rate=0.001)",
        "adapter(bottleneck=4)",
        "adapter(blocks=4)",
        "adapter(blocks=None)",
    ]
    names = [parse(text).file_name for text in texts]
    assert len(set(names)) == len(texts)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9.+_=-]*", name) for name in names)
    assert parse("lora(targets=('/', '..'))").file_name == "lora-targets=%2F+.."


def test_a_variant_changes_what_is_named_alone_and_says_so():
    method = parse("lora(rank=4)").variant(learning_rate=0.01)
    assert method.learning_rate == 0.01
    assert method.text == "lora(rank=4, learning_rate=0.01)"
    assert method.hyperparameters == CONSTANTS["lora"] | {"rank": 4, "learning_rate": 0.01}
    assert method.variant(learning_rate=0.1).text == "lora(rank=4, learning_rate=0.1)"
    assert parse(method.text) == method


@pytest.mark.parametrize("name", METHODS)
def test_hyperparameters_are_the_arguments_of_adapt_and_the_learning_rate(name):
    *arguments, rate = hyperparameters_of(name)
    assert rate == "learning_rate"
    assert arguments == list(inspect.signature(METHODS[name].adapt).parameters)[1:]


@pytest.mark.parametrize("name", METHODS)
def test_build_puts_the_method_around_the_model_with_its_hyperparameters(name):
    model = parse(name).build(tiny())
    assert type(model) is METHODS[name] and method_of(model) == name
    given = {k: v for k, v in CONSTANTS.get(name, {}).items() if k != "learning_rate"}
    assert given.items() <= model.hyperparameters.items()
