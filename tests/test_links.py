"""README and docs lead somewhere: their links, their code, and what pip is to install."""

import ast
import re
import sys
from importlib import metadata

import pytest
from test_docs import ROOT, text_of

PAGES = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
PROGRAM = ("finetuning.py", "data_utils", "modeling", "evaluation", "experiment")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page):
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    paths = [link.split("#")[0] for link in links if "://" not in link]
    assert [path for path in paths if not ((ROOT / page).parent / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_parses(page):
    for block in re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL):
        ast.parse(block)


def test_the_guides_code_is_the_packages():
    package = [path.read_text(encoding="utf-8") for path in (ROOT / "modeling").glob("*.py")]
    blocks = re.findall(r"```python\n(.*?)```", text_of("docs/your-own-method.md"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert any(block in source for source in package), f"no file of modeling/ has\n{block}"


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 105


def third_party(*places):
    """The packages that Python files import, by the names under which pip installs them."""
    files = [ROOT / place for place in places if place.endswith(".py")]
    files += [file for place in places for file in (ROOT / place).rglob("*.py")]
    found, names = set(), metadata.packages_distributions()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    own = {path.stem for folder in (ROOT, ROOT / "tests") for path in folder.iterdir()}
    others = found - own - sys.stdlib_module_names
    return {names.get(module, [module])[0].replace("_", "-") for module in others}


def required(file):
    """The packages that a requirements file names."""
    return set(re.findall(r"^[\w.-]+(?=[<>=~])", text_of(file), re.MULTILINE))


def test_every_import_of_the_program_stands_in_the_requirements():
    assert third_party(*PROGRAM) - required("requirements.txt") == set()


def test_every_import_of_benchmarks_and_tests_stands_in_the_requirements_of_both():
    both = required("requirements.txt") | required("requirements-dev.txt")
    peer = {"setfit"}  # nothing else needs it; benchmarks/setfit.py says how to install it
    assert third_party("benchmarks", "tests") - both == peer
