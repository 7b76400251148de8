"""The table in README.md names tests that exist, and every test of this folder stands in it."""

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
README = FOLDER / "README.md"


def rows(text):
    """(section, requirement, tests) of each row; the tests as "file.py::name"."""
    for line in text.splitlines():
        if line.startswith("| ["):
            section, requirement, tests = (cell.strip() for cell in line.split("|")[1:-1])
            yield section, requirement, re.findall(r"`([^`]+)`", tests)


def functions_of(folder):
    """Every test function of a folder's files, as "file.py::name"."""
    return {
        f"{file.name}::{node.name}"
        for file in folder.glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def faults(text, tests):
    """What is wrong with the table, a line each."""
    found = list(rows(text))
    named = {name for _, _, names in found for name in names}
    yield from (f"a row without a test: {requirement}" for _, requirement, names in found if not names)
    yield from (f"no such test: {name}" for name in sorted(named - tests))
    yield from (f"in no row: {name}" for name in sorted(tests - named))


def test_every_row_has_its_tests_and_every_test_its_row():
    ours = {name for name in functions_of(FOLDER) if not name.startswith("test_table.py::")}
    assert list(faults(README.read_text(), ours)) == []


def test_every_row_links_to_a_section_of_the_specification():
    found = list(rows(README.read_text()))
    assert len(found) > 100
    for section, requirement, _ in found:
        assert re.fullmatch(
            r"\[[^\]]+\]\(https://asgi\.readthedocs\.io/en/latest/[\w/]+\.html#[\w-]+\)", section
        )
        assert requirement


def test_the_check_finds_what_is_missing():
    text = "| [a](x) | nobody shows it | |\n| [b](y) | shown | `test_a.py::test_b` `test_a.py::test_gone` |\n"
    assert list(faults(text, {"test_a.py::test_b", "test_a.py::test_c"})) == [
        "a row without a test: nobody shows it",
        "no such test: test_a.py::test_gone",
        "in no row: test_a.py::test_c",
    ]
