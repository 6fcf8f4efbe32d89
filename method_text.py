"""Reads a method as one types it, such as lora(rank=4)+tfidf; writes it so, or in a file name."""

import ast
import re
from typing import Any
from urllib.parse import quote

from boundary import BadInput

EXPECTED = "a name, or a name and its hyperparameters such as lora(rank=4); spaces divide methods"
UNREADABLE = SyntaxError, ValueError, TypeError, RecursionError, MemoryError


def read_text(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The names and given hyperparameters in "lora(rank=4)+tfidf", in its order.

    Values are Python's literals; nothing is evaluated. Raises `BadInput` for any other text.
    """
    try:
        node, calls = ast.parse(text.strip(), mode="eval").body, []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):  # (a + b) + c
            calls.insert(0, node.right)
            node = node.left
        return [_read_call(call) for call in (node, *calls)]
    except UNREADABLE:
        raise BadInput(f"the method {text!r} cannot be read; expected {EXPECTED}") from None


def _read_call(node):
    name = node.func if isinstance(node, ast.Call) else node
    if not isinstance(name, ast.Name) or getattr(node, "args", ()):
        raise SyntaxError
    keywords = getattr(node, "keywords", ())
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
    if len(given) < len(keywords):
        raise SyntaxError  # a hyperparameter is given twice
    return name.id, given


def text_of(name: str, values: dict[str, Any]) -> str:
    """A method as one types it: "lora", "lora(rank=4)"."""
    texts = [f"{key}={value!r}" for key, value in values.items()]
    return f"{name}({', '.join(texts)})" if texts else name


def in_file_name(value: Any) -> str:
    """A hyperparameter's value as part of any file name; different values give different names.

    A text that is no plain word keeps its quotes: 1 is 1, and '1' is %271%27.
    """
    if isinstance(value, tuple):  # ("q", "v") is q+v, ("q",) is q+
        return "+".join(map(in_file_name, value)) + "+" * (len(value) < 2)
    if isinstance(value, str) and re.fullmatch("[a-z]+", value) and value not in ("inf", "nan"):
        return value
    return quote(repr(value), safe="")
