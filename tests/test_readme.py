"""README: its table of options is the command line's, its code runs, its commands are those of CI."""

import re
import subprocess
import sys

from miniasgi.options import FIELDS, shown, usage
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def options_table():
    """(option, default, meaning) of each row of README's table of options."""
    table = README.partition("### Options")[2].partition("###")[0]
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in table.splitlines()
        if line.startswith("| `--")
    ]


def row(each):
    return f"`{usage(each)}`", shown(each.default), each.metadata["help"]


def test_the_table_of_options_is_that_of_config():
    assert options_table() == [row(each) for each in FIELDS]


def test_the_table_of_options_is_that_of_help():
    command = [sys.executable, "-m", "miniasgi", "serve", "--help"]
    environment = {"COLUMNS": "1000", "PATH": ""}
    told = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    told = re.sub(r"\n {10,}", " ", told)  # argparse puts the help of a long option into the next line
    flags = set(re.findall(r"^  (--[a-z-]+)", told, re.MULTILINE)) | set(
        re.findall(r"^  -h, (--help)", told, re.M)
    )
    assert flags == {cells[0].strip("`").split()[0] for cells in options_table()} | {
        *("--version", "--help", "--reload", "--reload-dir")  # the command line's alone
    }
    for option, default, meaning in options_table():
        [line] = [
            line for line in told.splitlines() if re.match(rf"  {re.escape(option.strip('`'))}[ ,]", line)
        ]
        assert line.endswith(f"{meaning} (default: {default})")


def test_the_code_of_readme_runs(monkeypatch):
    import asyncio

    import miniasgi
    from tests.applications import hello

    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    ran = []
    monkeypatch.setattr(miniasgi, "run", lambda app, **options: ran.append((app, options)))
    exec(blocks[0], {})
    assert ran == [("module:app", {"port": 8000})]
    body = blocks[1].replace("print(", "server.stop(); print(").replace("\n", "\n    ")
    namespace = {"app": hello}
    exec(f"async def main():\n    {body}", namespace)
    asyncio.run(namespace["main"]())
    exec(blocks[2], namespace)
    namespace["test_it"]()


def test_ci_runs_the_command_of_readme():
    assert re.search(r"pip install -e '\.\[test\]' && \.venv/bin/pytest -n auto$", README, re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script


def test_every_file_that_readme_names_is_there():
    for name in re.findall(r"`((?:examples|miniasgi|tests)/[\w/.]+)`", README):
        assert (ROOT / name).exists(), name
