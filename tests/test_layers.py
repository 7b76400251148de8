"""The imports run one way: {asgi, config} ← protocol ← {observe, server} ← {inspector, process, …} ← {cli, __main__}."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "miniasgi"

# What each part may import of miniasgi. A folder stands for all its files.
MAY_IMPORT = {
    "version": set(),
    "config": set(),
    "asgi": set(),
    "explain": {"asgi", "config", "explain"},
    "loading": {"asgi", "config", "explain"},
    "protocol": {"asgi", "config", "explain", "protocol"},
    "lifespan": {"asgi", "config", "explain", "loops"},
    "listen": {"config"},
    "loops": {"config"},
    "accept": set(),
    "tls_context": {"config"},
    "observe": {"asgi", "config", "explain", "observe", "protocol", "version"},
    "server": {
        *("accept", "asgi", "config", "explain", "lifespan", "listen", "loops", "observe", "protocol"),
        "tls_context",
    },
    "inspector": {"asgi", "config", "inspector", "listen", "observe", "protocol", "server"},
    "tracing": {"config", "inspector", "observe"},
    "show": {"explain", "inspector", "observe", "show"},
    "process": {
        *("asgi", "config", "explain", "listen", "loading", "loops", "observe", "server"),
        *("tls_context", "tracing", "version"),
    },
    "reload": {"config", "inspector", "listen", "loops", "process", "reload", "server", "tls_context"},
    "check": {"asgi", "check", "config", "explain", "lifespan", "loading", "observe", "process", "server"},
    "testing": {
        *("asgi", "config", "explain", "lifespan", "listen", "loading", "loops", "observe", "protocol"),
        *("server", "testing"),
    },
    "__init__": {"config", "process", "server", "version"},
    "options": {"config"},
    "other_servers": set(),
    "cli": {
        *("check", "config", "explain", "lifespan", "observe", "options", "other_servers"),
        *("process", "reload", "show", "tracing", "version"),
    },
    "__main__": {"cli"},
}
ROAD_MAY_IMPORT = {"h11", "wsproto"}  # beside the standard library
# The files of some folders, the ground first: each may import those before it.
ORDER = {
    "reload": ["watch", "child", "parent", "__init__"],
    "inspector": ["kept", "page", "application", "serving", "__init__"],
    "show": ["exchanges", "mermaid", "curl", "as_test", "__init__"],
    "observe": [
        *("access", "colours", "conversation", "stand_ins", "recording", "record", "trace", "lanes"),
        *("writing", "debug", "watchdog", "stalls", "__init__"),
    ],
    "testing": [
        *("certificate", "faults", "memory", "raw", "served", "thread", "in_loop", "serving"),
        *("report", "strict", "plugin", "__init__"),
    ],
    "explain": ["shown", "frames", "faults", "messages", "awaits", "refusal", "application", "__init__"],
    "protocol": [
        *("reasons", "tls_scope", "strict", "scope", "recall", "runtime", "file", "connection"),
        *("tls_transport", "intake", "exchange", "frames", "websocket", "http1", "__init__"),
    ],
}

FILES = sorted(PACKAGE.rglob("*.py"))


def parts_of(file):
    return file.relative_to(PACKAGE).with_suffix("").parts


def imported(file):
    """(dotted name, parts of miniasgi or None) of each import in the file, those under TYPE_CHECKING too."""
    package = ["miniasgi", *parts_of(file)[:-1]]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names = [".".join([*base, node.module or ""]).rstrip(".")]
            if node.module is None:
                names = [f"{names[0]}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, _, rest = name.partition(".")
            yield name, rest.partition(".")[0] if root == "miniasgi" else None


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(parts_of(file)))
def test_no_import_runs_back(file):
    part = parts_of(file)[0]
    for name, of_miniasgi in imported(file):
        if of_miniasgi is not None:
            assert of_miniasgi in MAY_IMPORT[part], f"{part} imports {name}"


def test_the_road_imports_the_standard_library_h11_and_wsproto_only():
    import sys

    for file in FILES:
        if parts_of(file)[0] == "protocol":
            for name, of_miniasgi in imported(file):
                root = name.partition(".")[0]
                assert of_miniasgi or root in ROAD_MAY_IMPORT or root in sys.stdlib_module_names, (file, name)


@pytest.mark.parametrize("folder", ORDER)
def test_the_files_of_a_folder_import_one_way(folder):
    for file in FILES:
        if parts_of(file)[0] == folder:
            before = ORDER[folder][: ORDER[folder].index(parts_of(file)[1])]
            for name, of_miniasgi in imported(file):
                if of_miniasgi == folder:
                    assert name.rpartition(".")[2] in before, (file, name)


def test_the_parts_are_those_that_are_there():
    assert {parts_of(file)[0] for file in FILES} == set(MAY_IMPORT)


def test_the_check_finds_an_import_that_runs_back(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "protocol").mkdir()
    file = tmp_path / "protocol" / "bad.py"
    file.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..server import Server\n")
    with pytest.raises(AssertionError, match="protocol imports miniasgi.server"):
        test_no_import_runs_back(file)
