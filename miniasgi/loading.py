"""How an application is found by its name, and what is told where it is not found.

It knows nothing of sockets, protocols or servers. Whether what was found is an application says
`explain.application`.
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from .asgi import Application
from .config import did_you_mean, named, nearest
from .explain.application import LoadError, article, check_application, is_application_itself
from .explain.frames import short, summary


def load_app(target: str, *, app_dir: str = ".", factory: bool = False) -> Application:
    """The application that `target` names: `package.module:attribute` or `path/to/file.py:attribute`.

    `app_dir` goes first on the import path. With `factory`, the attribute is called for the application.
    Raises LoadError. What the application's own code raises stands above its last line, as a traceback that
    begins in the application's file.
    """
    place, _, attribute = target.rpartition(":")
    folder = Path(app_dir).resolve()
    if not folder.is_dir():
        raise LoadError(f"there is no folder {app_dir!r}, which {named('app_dir')} names")
    is_path = place.endswith(".py") or "/" in place
    if not (place and attribute) or (place.startswith(".") and not is_path):
        hint = two_halves(target, folder)
        raise LoadError(f"an application is named module:attribute, such as {hint!r}; got {target!r}")
    sys.path[:] = [str(folder), *(each for each in sys.path if each != str(folder))]
    module = load_file(Path(place), target) if is_path else load_module(place, folder, target)
    found = find_attribute(module, attribute, target)
    if factory:
        found = call_factory(found, target)
    check_application(found, target)
    return found  # type: ignore[no-any-return]  # that it awaits (scope, receive, send) shows when it is called


def two_halves(target: str, folder: Path) -> str:
    """What may be meant by a target that lacks one half."""
    module, _, attribute = target.rpartition(".")
    if attribute != "py" and file_of(module, folder).is_file():
        return f"{module}:{attribute}"
    return f"{target.strip(':') or 'main'}:app"


def call_factory(factory: Any, target: str) -> Any:
    without = named("factory", True)
    if not callable(factory):
        raise LoadError(f"{target} is {article(factory)}, not a factory; leave out {without}?")
    if is_application_itself(factory):
        raise LoadError(f"{target} takes (scope, receive, send): no factory; leave out {without}?")
    try:
        found = factory()
    except (Exception, SystemExit) as error:
        raise LoadError(own_traceback(error) + f"the factory {target} failed: {summary(error)}") from error
    if inspect.iscoroutine(found):
        found.close()
        raise LoadError(f"the factory {target} is a coroutine function; a factory is an ordinary one")
    return found


# ---- modules ----------------------------------------------------------------------------------------------


def load_module(name: str, folder: Path, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module asked for, or one that it imports? Only the first is a slip of the command line.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise failed_import(name, error) from error
        hint = module_hint(error.name, name, folder, target)
        raise LoadError(f"no module {error.name!r} in {folder} or installed{hint}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failed_import(name, error) from error


def module_hint(missing: str, name: str, folder: Path, target: str) -> str:
    """What may be meant by `name`, of which the part `missing` is not there."""
    package, dot, last = missing.rpartition(".")
    if dot and file_of(package, folder).is_file():  # a module, of which `last` may be an attribute
        return f"; did you mean {f'{package}:{last}'!r}?"
    within = folder / package.replace(".", "/")
    near = did_you_mean(missing, [package + dot + each for each in modules_in([str(within)])])
    return near or found_below(name, folder, target) or f"; see {named('app_dir')}"


def file_of(module: str, folder: Path) -> Path:
    return folder / (module.replace(".", "/") + ".py")


def modules_in(folders: Iterable[str]) -> list[str]:
    """The names of the modules in some folders, as far as they are files."""
    found = {each.stem for folder in folders for each in Path(folder).glob("*.py")}
    return sorted(found - {"__init__", "__main__"})


def found_below(name: str, folder: Path, target: str) -> str:
    """Where a module of this name is that is not on the import path: one or two folders below."""
    path = name.replace(".", "/")
    for depth in (1, 2):
        for tail in (f"{path}.py", f"{path}/__init__.py"):
            for each in sorted(folder.glob("*/" * depth + tail)):
                parts = each.relative_to(folder).parts
                if any(part.startswith(".") or part in ("site-packages", "node_modules") for part in parts):
                    continue
                within = folder.joinpath(*parts[:depth])
                if (within / "__init__.py").is_file():
                    return f"; did you mean {'.'.join((*parts[:depth], target))!r}?"
                return f"; there is {short(str(each))}: {named('app_dir', short(str(within)))}"
    return ""


def load_file(path: Path, target: str) -> ModuleType:
    """Import one file as a module named like it; its folder goes first on the import path.

    A file that is called like a module of Python's own, or one that is loaded already, gets another name: put
    in that module's place it would break whoever imports it next.
    """
    if path.suffix != ".py" or not path.is_file():
        raise LoadError(f"there is no file {path}{file_hint(path, target.rpartition(':')[2])}")
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


def file_hint(path: Path, attribute: str) -> str:
    """What may be meant by a path that is no file in Python."""
    as_module = Path(str(path.with_suffix("")).replace(".", "/") + ".py")  # examples.chat.py
    for each in (path.with_name(path.name + ".py"), as_module):
        if each.is_file():
            return f"; did you mean '{each}:{attribute}'?"
    if path.is_dir():
        inside = ", ".join(each.name for each in sorted(path.glob("*.py"))[:8])
        return f", but a folder; the files in it are {inside}" if inside else ", but a folder"
    near = [f"{each}.py" for each in nearest(path.stem, modules_in([str(path.parent)]))]
    below = [str(each) for each in sorted(Path().glob(f"*/{path.name}"))] if path.suffix == ".py" else []
    found = near or below[:2]
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


# ---- what is in them --------------------------------------------------------------------------------------


def find_attribute(module: ModuleType, attribute: str, target: str) -> Any:
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            hint = attribute_hint(name, module)
            raise LoadError(f"{target}: {module.__name__} has no attribute {name!r}{hint}") from None
    return found


def attribute_hint(name: str, module: ModuleType) -> str:
    public = [each for each in vars(module) if not each.startswith("_")]
    if near := did_you_mean(name, public):
        return near
    if not public and (within := modules_in(getattr(module, "__path__", []))):
        return f"; the modules in it are {', '.join(within[:8])}"
    return f"; it has {', '.join(public[:8]) or 'no public name'}"


def failed_import(name: str, error: BaseException) -> LoadError:
    return LoadError(own_traceback(error) + f"{name} cannot be imported: {summary(error)}")


def own_traceback(error: BaseException) -> str:
    """The traceback of `error` from the first frame of the application's own code on.

    Without its last line, where that is the summary, with which the text below it ends.
    """
    trace = error.__traceback__
    while trace is not None and is_machinery(trace):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    return text.removesuffix(summary(error) + "\n")


def is_machinery(trace: TracebackType) -> bool:
    """Whether this frame is ours or the import system's."""
    name = trace.tb_frame.f_code.co_filename
    return name == __file__ or name.startswith("<frozen importlib") or name == importlib.__file__
