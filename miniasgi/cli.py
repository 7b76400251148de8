"""The command line, made from Config's fields.

Exit codes: 0 stopped as asked, 1 unexpected, 2 wrong use (one line says what to do), 3 the application's
startup failed. Of a check: 0 nothing is wrong, 1 something is, 2 and 3 as above.
"""

import argparse
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from .config import LANES, UsageError, check_lanes, did_you_mean, lanes_named, nearest, spelling
from .explain.frames import of_application
from .lifespan import StartupFailed
from .observe.colours import is_coloured, painted
from .options import (
    FIELDS,
    add_option,
    environment_options,
    flag,
    misspelt_variables,
    spelling_of,
    with_values,
)
from .other_servers import stands_here
from .process import run
from .reload.child import inherited, serve_inherited
from .version import __version__

if TYPE_CHECKING:
    from .check import Line, Mark

STOPPED, UNEXPECTED, WRONG_USE, STARTUP_FAILED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; `arguments` are sys.argv's unless given. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    before = spelling.set(spelling_of((), ()))
    try:
        command, options = parse_arguments(arguments)
        return command(**options)
    except UsageError as error:
        return wrong_use(str(error))
    finally:
        spelling.reset(before)


Command = Callable[..., int]


def parse_arguments(arguments: Sequence[str]) -> tuple[Command, dict[str, Any]]:
    """The command, and what it is called with. Raises UsageError."""
    check_command_word(arguments)
    given, unknown = make_parser().parse_known_args(with_values(arguments))
    options = vars(given)
    command, parser = options.pop("command"), options.pop("parser")
    if unknown:
        foreign = map(stands_here, unknown if command is serve_command else ())
        raise next((UsageError(text) for text in foreign if text), parser.unrecognized(unknown))
    return command, options


def check_command_word(arguments: Sequence[str]) -> None:
    """Raise UsageError where the command was forgotten, or is none: argparse would only list them."""
    first = arguments[0] if arguments else "--help"
    if first in (*COMMANDS, "-h", "--help", "--version"):
        return
    if first.startswith("-") or APPLICATION.search(first):
        rest = [each for each in arguments if each != "serve"]
        raise UsageError(f"a command comes first; did you mean `{shlex.join(['miniasgi', 'serve', *rest])}`?")
    near = (
        did_you_mean(first, list(COMMANDS))
        or f"; the commands are {', '.join(COMMANDS[:-1])} and {COMMANDS[-1]}"
    )
    raise UsageError(f"there is no command {first!r}{near}")


COMMANDS = ("serve", "check", "show")
APPLICATION = re.compile(r":[A-Za-z_]|\.py$")  # what looks like one


def serve_command(app: str, reload: bool = False, reload_dir: Sequence[str] = (), **options: Any) -> int:
    inheritance = inherited(os.environ)
    if inheritance is None:  # a child need not say it again
        for text in misspelt_variables(os.environ):
            print(f"miniasgi: {text}", file=sys.stderr)
    environment = environment_options(os.environ)
    spelling.set(spelling_of(options, environment))
    options = {**environment, **options}
    if reload_dir and not reload:
        raise UsageError("--reload-dir has no effect without --reload")
    try:
        if inheritance is not None:
            serve_inherited(app, inheritance, **options)
        elif reload:
            from .reload.parent import serve_reloading

            serve_reloading(app, reload_dir, **options)
        else:
            run(app, **options)
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
    # Which a server has no use for.
    from .check import check, labels

    environment = environment_options(os.environ)
    environment = {name: environment[name] for name in LOADING if name in environment}
    spelling.set(spelling_of(options, environment))
    options = environment | options
    paths = list(dict.fromkeys(path))
    width = max(map(len, labels(paths)))
    coloured = is_coloured(sys.stdout)

    def show(line: "Line") -> None:
        try:
            print(told(line, width, coloured), flush=True)
        except BrokenPipeError:  # as behind `| head`: the check goes on for its exit code
            drop_output()

    try:
        return check(app, show, paths=paths, timeout=timeout, **options)
    except KeyboardInterrupt:
        print("\nStopped before the end")
        return UNEXPECTED


def show_command(file: str, format: str = "text", exchange: int | None = None, lanes: str = "all") -> int:
    # Which a server has no use for.
    from .observe.record import NotATrace
    from .observe.writing import lanes_of
    from .show import NoSuchExchange, read_trace, show

    spelling.set(spelling_of(("lanes",), ()))
    check_lanes("lanes", lanes)
    try:
        trace = read_trace(lines_of(file))
        for line in show(trace, format, exchange, lanes_of(sys.stdout, lanes_named(lanes))):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # as behind `| head`
        drop_output()
    except NotATrace as error:
        raise UsageError(f"{file}: {error}") from None
    except NoSuchExchange as error:
        raise UsageError(str(error)) from None
    return STOPPED


def drop_output() -> None:
    """Nobody reads it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def lines_of(file: str) -> list[str]:
    """The lines of a file; - is what is piped in. Raises UsageError."""
    try:
        if file == "-":
            return [*sys.stdin]
        with open(file, encoding="utf-8", errors="replace", newline="\n") as lines:
            return [*lines]
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def told(line: "Line", width: int, coloured: bool) -> str:
    """A line of a check as the terminal shows it: its mark, the step in a column of that width, the text."""
    if not line.about:  # the last one
        return "\n" + marked(line.text, line.mark, coloured)
    mark = marked(f"{line.mark.value:<6}", line.mark, coloured)
    details = "".join(f"\n{' ' * 10}{each}" for each in line.details)
    return f"{mark}  {line.about:<{width}}  {line.text}{details}"


COLOURS = {"FACT": "2", "GOOD": "32", "ADVICE": "33", "WRONG": "1;31"}


def marked(text: str, mark: "Mark", coloured: bool) -> str:
    return painted(text, COLOURS[mark.name]) if coloured else text


def wrong_use(text: str) -> int:
    *before, last = text.splitlines()
    print(*before, f"miniasgi: {last}", sep="\n", file=sys.stderr)
    return WRONG_USE


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong, without the usage of all options before it."""

    def __init__(self, **options: Any) -> None:
        # One is made with each option, to check it. To ask for the terminal's width imports shutil, bz2 and
        # lzma: 0.4 MB of each server, none of which shows its help.
        super().__init__(formatter_class=partial(argparse.HelpFormatter, width=80), **options)

    def format_help(self) -> str:
        self.formatter_class = argparse.HelpFormatter  # as wide as the terminal
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def unrecognized(self, arguments: Sequence[str]) -> UsageError:
        """The error for arguments that nobody knows, with the option that may be meant."""
        known = [name[2:] for action in self._actions for name in action.option_strings]
        name = arguments[0].partition("=")[0]
        near = nearest(name[2:], known) if name.startswith("--") and name[2:] not in known else []
        hint = f"; did you mean {' or '.join(repr(flag(each)) for each in near)}?" if near else ""
        text = f"unrecognized arguments: {' '.join(arguments)}"
        return UsageError(text + (hint or f"; see {self.prog} --help"))


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
    showing = commands.add_parser(
        "show",
        help="tell a recorded trace again",
        description="Tell again what `miniasgi serve APP --trace-file FILE` has recorded.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    showing.set_defaults(parser=showing, command=show_command)
    showing.add_argument("file", metavar="FILE", help="the trace; - reads what is piped in")
    showing.add_argument(
        "--format",
        choices=("text", "mermaid", "curl", "pytest", "html"),
        help="lanes of text, a sequence diagram, commands, tests, or a page of its own (default: text)",
    )
    showing.add_argument("--exchange", type=int, metavar="N", help="this one only (default: all)")
    showing.add_argument(
        "--lanes", metavar="LANES", help=f"of text: all, or some of {','.join(LANES)} (default: all)"
    )
    for command in (serving, checking):
        command.add_argument(
            "app", metavar="APP", help="package.module:attribute or path/to/file.py:attribute"
        )
        command.add_argument("--version", action="version", version=f"miniasgi {__version__}")
    for each in FIELDS:
        add_option(serving, each)
        if each.name in LOADING:
            add_option(checking, each)
    serving.add_argument(
        "--reload", action="store_true", help="load the application anew when its code changes"
    )
    serving.add_argument(
        "--reload-dir",
        action="append",
        metavar="TEXT",
        help="folder whose code is watched; may be given more than once "
        "(default: this one, --app-dir, and that of APP)",
    )
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
