"""The command line, made from Config's fields.

Exit codes: 0 stopped as asked, 1 unexpected, 2 wrong use (one line says what to do), 3 the application's
startup failed. Of a check: 0 nothing is wrong, 1 something is, 2 and 3 as above.
"""

import argparse
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TextIO, get_args, get_origin

from .check import Line, Mark, check, labels
from .config import Config, UsageError, did_you_mean, environment_name
from .frames import of_application
from .lifespan import StartupFailed
from .process import run
from .version import __version__

STOPPED, UNEXPECTED, WRONG_USE, STARTUP_FAILED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; `arguments` are sys.argv's unless given. Returns the exit code."""
    given, unknown = make_parser().parse_known_args(arguments)
    options = vars(given)
    parser: OneLineParser = options.pop("parser")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    command: Callable[..., int] = options.pop("command")
    try:
        return command(**options)
    except UsageError as error:
        return wrong_use(str(error))


def serve_command(app: str, **options: Any) -> int:
    try:
        run(app, **{**environment_options(os.environ), **options})
    except UsageError:
        raise
    except StartupFailed as error:
        cause = error.__cause__ and of_application(error.__cause__)
        logging.getLogger("miniasgi").error("%s", error, exc_info=cause)
        return STARTUP_FAILED
    except Exception:
        logging.getLogger("miniasgi").critical("The server failed", exc_info=True)
        return UNEXPECTED
    return STOPPED


def check_command(app: str, path: Sequence[str] = ("/",), timeout: float = 10.0, **options: Any) -> int:
    environment = environment_options(os.environ)
    options = {name: environment[name] for name in LOADING if name in environment} | options
    paths = list(dict.fromkeys(path))
    width = max(map(len, labels(paths)))
    coloured = is_coloured(sys.stdout)

    def show(line: Line) -> None:
        try:
            print(told(line, width, coloured), flush=True)
        except BrokenPipeError:  # as behind `| head`: the check goes on for its exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    try:
        return check(app, show, paths=paths, timeout=timeout, **options)
    except KeyboardInterrupt:
        print("\nStopped before the end")
        return UNEXPECTED


def told(line: Line, width: int, coloured: bool) -> str:
    """A line of a check as the terminal shows it: its mark, the step in a column of that width, the text."""
    if not line.about:  # the last one
        return "\n" + painted(line.text, line.mark, coloured)
    mark = painted(f"{line.mark.value:<6}", line.mark, coloured)
    details = "".join(f"\n{' ' * 10}{each}" for each in line.details)
    return f"{mark}  {line.about:<{width}}  {line.text}{details}"


COLOURS = {Mark.FACT: "2", Mark.GOOD: "32", Mark.ADVICE: "33", Mark.WRONG: "1;31"}


def painted(text: str, mark: Mark, coloured: bool) -> str:
    return f"\x1b[{COLOURS[mark]}m{text}\x1b[0m" if coloured else text


def is_coloured(stream: TextIO) -> bool:
    """On a terminal that can, and not where the user wants none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def wrong_use(text: str) -> int:
    *before, last = text.splitlines()
    print(*before, f"miniasgi: {last}", sep="\n", file=sys.stderr)
    return WRONG_USE


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong, without the usage of all options before it."""

    def error(self, message: str) -> NoReturn:
        flag = message.removeprefix("unrecognized arguments: ").split()[0]
        flags = [name for action in self._actions for name in action.option_strings if name[:2] == "--"]
        near = did_you_mean(flag, flags) if flag.startswith("--") else ""
        self.exit(wrong_use(f"{message}{near or f'; see {self.prog} --help'}"))


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
    serving.set_defaults(parser=serving, command=serve_command)
    checking = commands.add_parser(
        "check",
        help="say in words what an application can, and what it does wrong",
        description="Start an ASGI application, ask it, and say in words what was found. "
        "Exit code: 0 sound, 1 something is wrong, 2 it cannot be loaded, 3 it does not start.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    checking.set_defaults(parser=checking, command=check_command)
    for command in (serving, checking):
        command.add_argument(
            "app", metavar="APP", help="package.module:attribute or path/to/file.py:attribute"
        )
        command.add_argument("--version", action="version", version=f"miniasgi {__version__}")
    for each in dataclasses.fields(Config):
        add_option(serving, each)
        if each.name in LOADING:
            add_option(checking, each)
    checking.add_argument(
        "--path",
        action="append",
        metavar="PATH",
        help="path to ask for; may be given more than once (default: /)",
    )
    checking.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="time that each step may take (default: 10)"
    )
    return parser


LOADING = ("app_dir", "factory")  # the options of how an application is found, which each command has


def add_option(parser: argparse.ArgumentParser, each: "dataclasses.Field[Any]") -> None:
    flag = "--" + each.name.replace("_", "-")
    text = f"{each.metadata['help']} (default: {shown(each.default)})"
    parser.add_argument(flag, help=text, **form(each))


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
