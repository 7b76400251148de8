"""Config's fields as the options of the command line and as environment variables, and how both say them.

It reads no environment by itself and ends no process: what is wrong is a UsageError.
"""

import argparse
import dataclasses
import shlex
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args, get_origin

from .config import Config, Tracing, UsageError, environment_name, nearest

Field = dataclasses.Field[Any]
PREFIX = environment_name("")
FIELDS: list[Field] = [*dataclasses.fields(Config), *dataclasses.fields(Tracing)]
# Options that may stand without a value, and what that means. A value of theirs stands behind an equals sign:
# otherwise `--trace app:app` would have one.
BARE = {"--trace": "all", "--inspect": "auto"}


def flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def usage(each: Field) -> str:
    """An option with the values that it takes, where those are some words: --loop {auto,asyncio,uvloop}."""
    values = choices(each)
    return f"{flag(each.name)} {values}" if values else flag(each.name)


def choices(each: Field) -> str:
    return f"{{{','.join(get_args(each.type))}}}" if get_origin(each.type) is Literal else ""


def shown(default: object) -> str:
    """A default as the help and README show it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default) or "none"


# ---- the command line -------------------------------------------------------------------------------------


def add_option(parser: argparse.ArgumentParser, each: Field) -> None:
    text = f"{each.metadata['help']} (default: {shown(each.default)})"
    parser.add_argument(flag(each.name), help=text, **form(each))


def form(each: Field) -> dict[str, Any]:
    """How argparse reads a field: as a flag, or a value, of which Config says whether it takes it."""
    if each.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if flag(each.name) in BARE:
        return {"nargs": "?", "metavar": "PORT" if each.name == "inspect" else "LANES"}
    metavar = choices(each) or {int: "N", float: "SECONDS", str: "TEXT"}[each.type]  # type: ignore[index]
    return {"type": partial(parse, each, flag(each.name)), "metavar": metavar}


def with_values(arguments: Sequence[str]) -> list[str]:
    """The arguments, with a value for each of those options that may stand without one."""
    return [f"{each}={BARE[each]}" if each in BARE else each for each in arguments]


def parse(each: Field, name: str, text: str) -> Any:
    """The value of an option, which was set by `name`. Raises UsageError for what is not of its type."""
    if each.type is bool:
        if text.lower() not in YES_OR_NO:
            raise UsageError(f"{name} is yes or no, not {text!r}")
        return YES_OR_NO[text.lower()]
    if get_origin(each.type) is Literal:
        return text.lower()
    if each.type in (int, float):
        try:
            return each.type(text)
        except ValueError:
            kind = "a whole number" if each.type is int else "a number"
            raise UsageError(f"{name} is {kind}, not {text!r}") from None
    return text


YES_OR_NO = {"1": True, "true": True, "yes": True, "on": True}
YES_OR_NO |= {"0": False, "false": False, "no": False, "off": False}


# ---- the environment --------------------------------------------------------------------------------------


def environment_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """The options that environment variables set. Raises UsageError for one that cannot be read."""
    options: dict[str, Any] = {}
    for each in FIELDS:
        name = environment_name(each.name)
        if name in environment:
            options[each.name] = parse(each, name, environment[name])
    return options


def misspelt_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """What to say of variables that are nearly ours. Others with our prefix may be somebody else's."""
    known = [each.name.upper() for each in FIELDS]
    for variable in environment:
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in known and (near := nearest(name, known)):
            yield f"{variable} sets no option; did you mean {PREFIX}{near[0]}?"


# ---- how an option is said --------------------------------------------------------------------------------


def spelling_of(
    given: Container[str], environment: Container[str]
) -> Callable[[str, str | bool | None], str]:
    """How an option is said to who gave some as arguments, and others by environment variables."""

    def say(option: str, value: str | bool | None) -> str:
        if option not in given and option in environment:
            text = shown(value) if isinstance(value, bool) else value
            return environment_name(option) + ("" if text is None else f"={shlex.quote(text)}")
        if isinstance(value, bool):
            return flag(option) if value else flag(f"no_{option}")
        return flag(option) + ("" if value is None else f" {shlex.quote(value)}")

    return say
