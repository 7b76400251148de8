"""An application told from what is none, before it is called: what it is, where it was defined, what to do.

A leaf, which is asked once, at the start. What an application is: the ASGI specification, version 3.0,
"Applications" and "Legacy Applications"
(https://asgi.readthedocs.io/en/latest/specs/main.html#applications). Refused is only what cannot work for
certain; what nobody can know without a call shows when it is called.
"""

import dis
import functools
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ..config import UsageError, named
from .frames import short


class LoadError(UsageError):
    """The application cannot be loaded; the text ends with one line that says what to do."""


def check_application(app: object, name: str) -> None:
    """Raise LoadError for what cannot be called as ASGI 3 has it; the text says what to do about it."""
    if inspect.iscoroutine(app):
        app.close()
        raise LoadError(
            f"{name} is a coroutine already: it was called where it was named; name the function itself, "
            f"without the parentheses behind {app.__qualname__}"
        )
    if not callable(app):
        wrong = f"is {article(app)}, which cannot be called as an ASGI application{lack(app)}"
    else:
        wrong = arguments_fault(app) or result_fault(app)
    if wrong:  # only now is it looked where the application is: to find a class takes milliseconds
        raise LoadError(f"{name}{definition(app)} {wrong}")


def definition(app: object) -> str:
    """Where the function or the class of an application was defined: ` (app.py, line 3)`; or nothing."""
    function = function_of(app) if not has_class(app) else None
    if function is not None:
        return f" ({short(function.__code__.co_filename)}, line {function.__code__.co_firstlineno})"
    kind = app if inspect.isclass(app) else type(app)
    try:
        file, (_, number) = inspect.getsourcefile(kind), inspect.getsourcelines(kind)
    except (OSError, TypeError):  # built in, or made at run time
        return ""
    return f" ({short(file)}, line {number})" if file else ""


def has_class(app: object) -> bool:
    """Whether the reader would look for the application's class, and not for a function."""
    return not isinstance(app, FunctionType | MethodType | functools.partial)


def article(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def lack(app: object) -> str:
    """What would make an application of an object that cannot be called."""
    if isinstance(app, ModuleType):
        return f"; name what is in it, as in {app.__name__}:app"
    return "; its class has no __call__(self, scope, receive, send)" if hasattr(app, "__dict__") else ""


# ---- its arguments ----------------------------------------------------------------------------------------


def arguments_fault(app: Callable[..., object]) -> str:
    """What is wrong with a callable that does not take (scope, receive, send); "" where it does, or may.

    What a decorator says that it wraps is not looked at: the wrapper is called.
    """
    if hasattr(app, "__signature__"):  # which may be as little its own
        return ""
    if isinstance(
        special(type(app), "__call__"), staticmethod | classmethod
    ):  # inspect takes it for a method
        return ""
    try:
        signature = inspect.signature(app, follow_wrapped=False)
    except (TypeError, ValueError):
        return ""  # something built in, whose arguments nobody knows
    try:
        signature.bind({}, None, None)
    except TypeError:
        return other_kind(app, signature)
    return ""


def other_kind(app: Callable[..., object], signature: inspect.Signature) -> str:
    """What a callable is that does not take (scope, receive, send), and what to do about it."""
    names = requires(signature)
    takes = f"takes ({', '.join(names)}), not (scope, receive, send)"
    if inspect.isclass(app) and call_takes_three(app):
        return name_an_instance(app)
    if inspect.isclass(app) and special(app, "__call__") is None and not names:
        return "is a class that has neither `async def __call__(self, scope, receive, send)` nor `__await__`"
    if not names:
        return f"{takes}; is it a factory that makes the application ({named('factory', True)})?"
    if inspect.iscoroutinefunction(function_of(app)) or names[-1] == "send":
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


def requires(signature: inspect.Signature) -> list[str]:
    """The arguments that a call has to give, by their position."""
    return [
        each.name
        for each in signature.parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
    ]


def is_application_itself(factory: Callable[..., object]) -> bool:
    """Whether what is named as a factory takes exactly an application's arguments."""
    try:
        return requires(inspect.signature(factory, follow_wrapped=False)) == ["scope", "receive", "send"]
    except (TypeError, ValueError):
        return False


def name_an_instance(app: type) -> str:
    return f"is a class, and its instances are the applications: name one, as in app = {app.__name__}(...)"


def call_takes_three(app: type) -> bool:
    try:
        inspect.signature(special(app, "__call__")).bind(None, {}, None, None)
    except (TypeError, ValueError):
        return False
    return True


# ---- what it returns --------------------------------------------------------------------------------------


def result_fault(app: Callable[..., object]) -> str:
    """Why what a call returns can never be awaited; "" where it can, or where only a call would tell."""
    while isinstance(app, functools.partial):
        app = app.func
    if inspect.isclass(app):
        return instance_fault(app)
    function = function_of(app)
    if function is None or inspect.iscoroutinefunction(function):
        return ""
    what = "" if isinstance(app, FunctionType | MethodType) else "has a __call__ which "
    flags = function.__code__.co_flags
    if flags & inspect.CO_ITERABLE_COROUTINE:  # by types.coroutine
        return ""
    if flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return f"{what}has a `yield` in it, so that a call makes a generator, which cannot be awaited"
    if returns_only_none(function.__code__):
        return f"{what}is declared with `def`, and returns nothing that could be awaited: say `async def`"
    return ""


def instance_fault(app: type) -> str:
    """The same for a class, a call of which makes an instance, unless it makes something else of it."""
    usual = special(type(app), "__call__") is special(type, "__call__")
    usual = usual and special(app, "__new__") is special(object, "__new__")
    if not usual or special(app, "__await__") is not None:
        return ""
    if call_takes_three(app):
        return name_an_instance(app)
    return (
        "is a class whose instances cannot be awaited; give it `def __await__(self)`, or in place of "
        "__init__ an `async def __call__(self, scope, receive, send)`, and name an instance"
    )


def returns_only_none(code: CodeType) -> bool:
    """Whether every `return` of a function, the one at its end too, returns None. Certain if True."""
    found, before = False, ("", None)
    for each in dis.get_instructions(code):
        if each.opname in ("RETURN_VALUE", "RETURN_CONST"):
            # A RETURN_VALUE that is jumped to may find another value than the one loaded before it.
            is_none = before == ("LOAD_CONST", None) and not each.is_jump_target
            if not (is_none if each.opname == "RETURN_VALUE" else each.argval is None):
                return False
            found = True
        before = (each.opname, each.argval)
    return found


# ---- what is called ---------------------------------------------------------------------------------------


def function_of(app: object) -> FunctionType | None:
    """The function that runs when `app` is called, as far as that is one of Python; None for a class, too."""
    match app:
        case FunctionType():
            return app
        case MethodType():
            return function_of(app.__func__)
        case functools.partial():
            return function_of(app.func)
        case type():
            return None
    called = special(type(app), "__call__")
    return called if isinstance(called, FunctionType) else None


def special(kind: type, name: str) -> Any:
    """A special method as Python finds it: in the class or one above it, never in the instance."""
    return next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)
