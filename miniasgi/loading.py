"""How an application is found by its name, and told from what is none.

A leaf: it knows nothing of sockets, protocols or servers. What an application is: the ASGI specification,
version 3.0, "Applications" and "Legacy Applications"
(https://asgi.readthedocs.io/en/latest/specs/main.html#applications).
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from .asgi import Application
from .config import UsageError, did_you_mean
from .frames import summary


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
    check_application(found, target)
    return found  # type: ignore[no-any-return]  # that it awaits (scope, receive, send) shows when it is called


def check_application(app: object, name: str) -> None:
    """Raise LoadError for what cannot be called as ASGI 3 has it; the text says what to do about it."""
    if inspect.iscoroutine(app):
        app.close()
        raise LoadError(
            f"{name} is a coroutine already: it was called where it was named; name the function itself, "
            f"without the parentheses behind {app.__qualname__}"
        )
    if not callable(app):
        hint = "; its class has no __call__(self, scope, receive, send)" if hasattr(app, "__dict__") else ""
        raise LoadError(f"{name} is {article(app)}, which cannot be called as an ASGI application{hint}")
    try:
        signature = inspect.signature(app)
    except ValueError:
        return  # something built in, whose arguments nobody knows
    try:
        signature.bind({}, None, None)
    except TypeError as error:
        raise LoadError(f"{name} {other_kind(app, signature)}") from error


def other_kind(app: object, signature: inspect.Signature) -> str:
    """What a callable is that does not take (scope, receive, send), and what to do about it."""
    names = [
        each.name
        for each in signature.parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
    ]
    takes = f"takes ({', '.join(names)}), not (scope, receive, send)"
    if inspect.isclass(app) and "__call__" in vars(app) and call_takes_three(app):
        return (
            f"is a class, and its instances are the applications: name one, as in app = {app.__name__}(...)"
        )
    if not names:
        return f"{takes}; is it a factory that makes the application (--factory)?"
    if inspect.iscoroutinefunction(app) or names[-1] == "send":
        return takes
    match len(names):
        case 1:
            return (
                f"{takes}: an application of ASGI 2, which is called twice; "
                "wrap it with asgiref.compatibility.guarantee_single_callable(app)"
            )
        case 2:
            return (
                f"{takes}: a WSGI application; "
                "wrap it with a2wsgi.WSGIMiddleware(app) or asgiref.wsgi.WsgiToAsgi(app)"
            )
    return takes


def call_takes_three(app: type) -> bool:
    try:
        inspect.signature(vars(app)["__call__"]).bind(None, {}, None, None)
    except (TypeError, ValueError):
        return False
    return True


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
