"""The README of `miniasgi.testing`: its examples are tests that pass, its tables have the names that there are."""

import re

import pytest

from miniasgi.testing import serve
from miniasgi.testing.plugin import asgi_app, asgi_server, asgi_server_session
from tests.conftest import ROOT

from .applications import hello

pytest_plugins = ["pytester"]

README = (ROOT / "miniasgi" / "testing" / "README.md").read_text()
# The code of each section, by its title.
SECTIONS = {
    section.partition("\n")[0].strip("# "): "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    for section in re.split(r"^#+ ", README, flags=re.MULTILINE)
    if "```python" in section
}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_examples_of_a_section_pass(pytester, title):
    pytester.makepyfile(test_example=SECTIONS[title])
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(re.findall(r"def test_", SECTIONS[title])))


def test_there_are_examples():
    assert len(SECTIONS) == 6
    assert README.count("def test_") == 12


def names(head):
    """What stands in the first cells of the table under this head."""
    lines = README.partition(head)[2].partition("\n\n")[0].splitlines()[1:]
    assert lines
    return [name for line in lines for name in re.findall(r"`(\w+)", line.split("|")[1])]


def test_the_table_of_an_exchange_has_the_names_that_there_are():
    with serve(hello) as server:
        client = server.raw()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.response()
    found = names("| of an exchange | |")
    assert len(found) == 13
    for name in found:
        assert hasattr(server.exchanges[0], name), name


def test_the_table_of_fixtures_is_whole():
    fixtures = [each.__name__ for each in (asgi_server, asgi_app, asgi_server_session)]
    assert [name for name in names("| fixture | |") if name.startswith("asgi_")][:1] == fixtures[:1]
    for name in fixtures:
        assert f"`{name}" in README
