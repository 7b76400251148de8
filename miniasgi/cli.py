"""The command line, made from Config's fields.

Exit codes: 0 stopped as asked, 1 unexpected, 2 wrong use (one line says what to do), 3 the application's
startup failed.
"""

import argparse
import dataclasses
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, get_args, get_origin

from .config import Config, UsageError, did_you_mean, environment_name
from .frames import of_application
from .lifespan import StartupFailed
from .process import run
from .version import __version__

STOPPED, UNEXPECTED, WRONG_USE, STARTUP_FAILED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; `arguments` are sys.argv's unless given. Returns the exit code."""
    given = make_parser().parse_args(arguments)
    options = {**environment_options(os.environ), **vars(given)}
    app = options.pop("app")
    try:
        run(app, **options)
    except UsageError as error:
        return wrong_use(str(error))
    except StartupFailed as error:
        cause = error.__cause__ and of_application(error.__cause__)
        logging.getLogger("miniasgi").error("%s", error, exc_info=cause)
        return STARTUP_FAILED
    except Exception:
        logging.getLogger("miniasgi").critical("The server failed", exc_info=True)
        return UNEXPECTED
    return STOPPED


def wrong_use(text: str) -> int:
    *before, last = text.splitlines()
    print(*before, f"miniasgi: {last}", sep="\n", file=sys.stderr)
    return WRONG_USE


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong, without the usage of all options before it."""

    def error(self, message: str) -> NoReturn:
        flag = message.removeprefix("unrecognized arguments: ").split()[0]
        flags = ["--" + each.name.replace("_", "-") for each in dataclasses.fields(Config)]
        near = did_you_mean(flag, flags) if flag.startswith("--") else ""
        self.exit(wrong_use(f"{message}{near or '; see miniasgi serve --help'}"))


def make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="miniasgi", description="A minimal ASGI server: HTTP/1.1 by h11, WebSocket by wsproto."
    )
    parser.add_argument("--version", action="version", version=f"miniasgi {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serving = commands.add_parser(
        "serve",
        help="serve an application",
        description="Serve an ASGI application until SIGINT or SIGTERM.",
        epilog="Each option can be set by an environment variable, too: --port by MINIASGI_PORT.",
        allow_abbrev=False,  # what an abbreviation means would change with every new option
        argument_default=argparse.SUPPRESS,  # so that an option not given leaves its environment variable
    )
    serving.add_argument("app", metavar="APP", help="package.module:attribute or path/to/file.py:attribute")
    serving.add_argument("--version", action="version", version=f"miniasgi {__version__}")
    for each in dataclasses.fields(Config):
        flag = "--" + each.name.replace("_", "-")
        text = f"{each.metadata['help']} (default: {shown(each.default)})"
        serving.add_argument(flag, help=text, **form(each))
    return parser


def form(each: "dataclasses.Field[Any]") -> dict[str, Any]:
    """How argparse reads a field: as a flag, one of some words, or a value."""
    if each.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(each.type) is Literal:
        return {"choices": get_args(each.type), "type": str.lower}
    kind = each.type
    assert isinstance(kind, type)
    return {"type": kind, "metavar": {int: "N", float: "SECONDS", str: "TEXT"}[kind]}


def shown(default: object) -> str:
    """A default as the help and README show it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default) or "none"


def environment_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """The options that environment variables set. Exits with code 2 on one that cannot be read."""
    options: dict[str, Any] = {}
    for each in dataclasses.fields(Config):
        name = environment_name(each.name)
        if name in environment:
            options[each.name] = parse(each, name, environment[name])
    return options


YES_OR_NO = {"1": True, "true": True, "yes": True, "on": True}
YES_OR_NO |= {"0": False, "false": False, "no": False, "off": False}


def parse(each: "dataclasses.Field[Any]", name: str, text: str) -> Any:
    if each.type is bool:
        if text.lower() not in YES_OR_NO:
            sys.exit(wrong_use(f"{name} is yes or no, not {text!r}"))
        return YES_OR_NO[text.lower()]
    if get_origin(each.type) is Literal:
        return text.lower()
    if each.type in (int, float):
        try:
            return each.type(text)
        except ValueError:
            sys.exit(wrong_use(f"{name} is a number, not {text!r}"))
    return text
