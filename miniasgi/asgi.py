"""ASGI's own words: the five aliases, the two errors of `send`, and how an application is found.

A leaf: it knows nothing of sockets, protocols or servers. Source of the aliases and of what an application
is: the ASGI specification, version 3.0 (https://asgi.readthedocs.io/en/latest/specs/main.html).
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from .config import UsageError, did_you_mean

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class ASGIError(RuntimeError):
    """The application broke the ASGI specification; raised where it did, from its own `send()`."""


class ClientDisconnected(OSError):
    """Raised from `send()` once the client has left (ASGI HTTP & WebSocket 2.4 asks for an OSError).

    It is no error of the application's: if it ends the application, nothing is logged.
    """


def unexpected(message: object, state: str, allowed: Iterable[str]) -> ASGIError:
    """The error for a message that may not be sent in this state: it names both, and what may be sent."""
    kind = message.get("type") if isinstance(message, MutableMapping) else None
    if kind is None:
        return ASGIError(f"send() takes a dict with the key 'type', not {message!r:.200}")
    names = list(allowed)
    expected = f"expected {' or '.join(names)}" if names else "nothing more may be sent"
    return ASGIError(f"{kind!r} was sent {state}; {expected}{did_you_mean(str(kind), names)}")


# ---- loading an application -------------------------------------------------------------------------------


class LoadError(UsageError):
    """The application cannot be loaded; the text ends with one line that says what to do."""


def load_app(target: str, *, app_dir: str = ".", factory: bool = False) -> Application:
    """The application that `target` names: `package.module:attribute` or `path/to/file.py:attribute`.

    `app_dir` goes first on the import path. With `factory`, the attribute is called for the application.
    Raises LoadError. What the application's own code raises stands above its last line, as a traceback that
    begins in the application's file.
    """
    place, colon, attribute = target.rpartition(":")
    if not (place and attribute) or place.startswith("."):
        hint = f"{place or attribute}:app" if colon else f"{target}:app"
        raise LoadError(f"an application is named module:attribute, such as {hint!r}; got {target!r}")
    folder = str(Path(app_dir).resolve())
    if not Path(folder).is_dir():
        raise LoadError(f"there is no folder {app_dir!r}, which --app-dir names")
    sys.path[:] = [folder, *(each for each in sys.path if each != folder)]
    module = load_file(Path(place)) if place.endswith(".py") else load_module(place, folder)
    found = find_attribute(module, attribute, target)
    if factory:
        if not callable(found):
            raise LoadError(f"{target} is {article(found)}, not a factory; leave out --factory?")
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise LoadError(
                own_traceback(error) + f"the factory {target} failed: {summary(error)}"
            ) from error
        if inspect.iscoroutine(found):
            found.close()
            raise LoadError(f"the factory {target} is a coroutine function; a factory is an ordinary one")
    if not callable(found):
        raise LoadError(f"{target} is {article(found)}, which cannot be called as an ASGI application")
    try:
        inspect.signature(found).bind({}, None, None)
    except TypeError as error:
        raise LoadError(
            f"{target} cannot be called with (scope, receive, send) as ASGI does: {error}; "
            "is it a factory (--factory), or a WSGI application (wrap it, with a2wsgi or asgiref)?"
        ) from error
    except ValueError:
        pass  # something built in, whose arguments nobody knows
    return found  # type: ignore[no-any-return]  # that it awaits (scope, receive, send) shows when it is called


def load_module(name: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module asked for, or one that it imports? Only the first is a slip of the command line.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise failed_import(name, error) from error
        near = did_you_mean(name, [each.stem for each in Path(folder).glob("*.py")])
        raise LoadError(
            f"no module {error.name!r} in {folder} or installed{near or '; see --app-dir'}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failed_import(name, error) from error


def load_file(path: Path) -> ModuleType:
    """Import one file as a module named like it; its folder goes first on the import path.

    A file that is called like a module of Python's own, or one that is loaded already, gets another name: put
    in that module's place it would break whoever imports it next.
    """
    if not path.is_file():
        near = did_you_mean(path.name, [each.name for each in path.parent.glob("*.py") if each.is_file()])
        raise LoadError(f"there is no file {path}{near}")
    sys.path.insert(0, str(path.parent.resolve()))
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    name = f"{path.stem}_app" if taken else path.stem
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None  # a name that ends in .py always has a loader
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # before it runs, so that it can be imported by its own parts
    try:
        specification.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise failed_import(str(path), error) from error
    return module


def find_attribute(module: ModuleType, attribute: str, target: str) -> Any:
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            public = [each for each in vars(module) if not each.startswith("_")]
            near = did_you_mean(name, public) or f"; it has {', '.join(public[:8]) or 'no public name'}"
            raise LoadError(f"{target}: {module.__name__} has no attribute {name!r}{near}") from None
    return found


def article(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def failed_import(name: str, error: BaseException) -> LoadError:
    return LoadError(own_traceback(error) + f"{name} cannot be imported: {summary(error)}")


def summary(error: BaseException) -> str:
    """The error's type and text in one line."""
    return traceback.format_exception_only(error)[-1].strip().splitlines()[0]


def own_traceback(error: BaseException) -> str:
    """The traceback of `error` from the first frame of the application's own code on."""
    trace = error.__traceback__
    while trace is not None and is_machinery(trace):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def is_machinery(trace: TracebackType) -> bool:
    """Whether this frame is ours or the import system's."""
    name = trace.tb_frame.f_code.co_filename
    return name == __file__ or name.startswith("<frozen importlib") or name == importlib.__file__
