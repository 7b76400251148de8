"""Finding an application, and the errors on the way."""

import sys

import pytest

from miniasgi.loading import LoadError, load_app


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on a fresh import path; what is imported from it is forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(folder, target, **arguments):
    return load_app(target, app_dir=str(folder), **arguments)


def test_a_module_is_found_in_the_app_dir(folder):
    write(folder, "loaded_one.py", "async def app(scope, receive, send): ...")
    assert load(folder, "loaded_one:app").__name__ == "app"


def test_a_module_in_a_package_and_an_attribute_of_an_attribute(folder):
    write(folder, "loaded_pkg/__init__.py", "")
    write(folder, "loaded_pkg/web.py", "class site:\n    async def app(scope, receive, send): ...")
    assert load(folder, "loaded_pkg.web:site.app").__qualname__ == "site.app"


def test_a_file_is_loaded_by_its_path_and_finds_its_neighbours(folder):
    write(folder, "apps/neighbour.py", "name = 'neighbour'")
    path = write(
        folder,
        "apps/loaded_file.py",
        "import neighbour\nasync def app(*a): ...\napp.of = neighbour.name, __name__",
    )
    assert load(folder, f"{path}:app").of == ("neighbour", "loaded_file")


def test_a_file_does_not_take_the_place_of_a_module_with_its_name(folder):
    path = write(folder, "apps/json.py", "async def app(*a): ...\napp.of = __name__")
    before = sys.modules["json"]
    assert load(folder, f"{path}:app").of == "json_app"
    assert sys.modules["json"] is before


def test_a_factory_is_called(folder):
    write(folder, "loaded_factory.py", "def make():\n    async def made(*a): ...\n    return made")
    assert load(folder, "loaded_factory:make", factory=True).__name__ == "made"


def error(folder, target, **arguments):
    with pytest.raises(LoadError) as caught:
        load(folder, target, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("target", ["main", "main:", ":app", "", ".main:app"])
def test_a_target_without_both_halves_is_shown_how(folder, target):
    assert "module:attribute, such as " in error(folder, target)


def test_a_module_that_is_not_there_is_told_with_the_nearest_name(folder):
    write(folder, "mainly.py", "")
    assert "no module 'mainyl'" in error(folder, "mainyl:app")
    assert "did you mean 'mainly'" in error(folder, "mainyl:app")
    assert "see app_dir" in error(folder, "qqqqqq:app")
    assert "no module 'qqqqqq'" in error(folder, "qqqqqq.asgi:app")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("sub/chat:app", "there is no file sub/chat; did you mean 'sub/chat.py:app'?"),
        ("./sub/chat:app", "there is no file sub/chat; did you mean 'sub/chat.py:app'?"),
        ("sub.chat.py:app", "there is no file sub.chat.py; did you mean 'sub/chat.py:app'?"),
        ("sub/caht.py:app", "there is no file sub/caht.py; did you mean 'chat.py'?"),
        ("chat.py:app", "there is no file chat.py; did you mean 'sub/chat.py'?"),
        ("sub/:app", "there is no file sub, but a folder; the files in it are chat.py"),
        ("nothing/:app", "there is no file nothing"),
        ("chat:app", "no module 'chat' in {} or installed; there is sub/chat.py: app_dir='sub'"),
        ("inner.one:app", "; there is deep/er/inner/one.py: app_dir='deep/er'"),
        ("two:app", "; did you mean 'package.two:app'?"),
        ("package.tow:app", "no module 'package.tow' in {} or installed; did you mean 'package.two'?"),
        ("package.two.app:app", "; did you mean 'package.two:app'?"),
        ("package.two.app", "is named module:attribute, such as 'package.two:app'; got 'package.two.app'"),
        ("sub/chat.py", "is named module:attribute, such as 'sub/chat.py:app'; got 'sub/chat.py'"),
        ("package:app", "package has no attribute 'app'; the modules in it are two"),
        ("hidden:app", "no module 'hidden' in {} or installed; see app_dir"),
    ],
)
def test_what_may_be_meant_by_a_name_that_leads_nowhere_is_told(folder, monkeypatch, target, told):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PWD", str(folder))
    for name in ("sub/chat.py", "package/two.py", "package/__init__.py", "deep/er/inner/one.py"):
        write(folder, name, "")
    write(folder, ".venv/hidden.py", "")
    assert error(folder, target).endswith(told.format(folder))


def test_a_file_may_be_named_from_this_folder_on(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder, "loaded_dotted.py", "async def app(scope, receive, send): ...")
    assert load(folder, "./loaded_dotted.py:app").__name__ == "app"


def test_a_file_that_is_not_there_is_told_with_the_nearest_name(folder):
    write(folder, "mainly.py", "")
    assert f"no file {folder}/mainyl.py; did you mean 'mainly.py'" in error(folder, f"{folder}/mainyl.py:app")


def test_an_attribute_that_is_not_there_is_told_with_the_nearest_names(folder):
    write(folder, "loaded_two.py", "application = 1\nother = 2")
    assert "has no attribute 'aplication'; did you mean 'application'" in error(
        folder, "loaded_two:aplication"
    )
    assert "it has application, other" in error(folder, "loaded_two:xyz")


def test_what_cannot_be_called_is_told(folder):
    write(folder, "loaded_three.py", "app = 1\ndef make(): return app")
    assert "loaded_three:app is an int" in error(folder, "loaded_three:app")
    assert "not a factory" in error(folder, "loaded_three:app", factory=True)
    assert "is an int, which cannot be called" in error(folder, "loaded_three:make", factory=True)


@pytest.mark.parametrize("by_path", [False, True])
def test_an_error_in_the_application_is_shown_from_its_own_file_on(folder, by_path):
    path = write(
        folder, "loaded_four.py", "def setting():\n    raise ValueError('no setting')\n\nsetting()\n"
    )
    text = error(folder, f"{path}:app" if by_path else "loaded_four:app")
    lines = text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert f'"{path}", line 4' in lines[1]
    assert "miniasgi" not in text.replace(str(folder), "").replace("/miniasgi", "")
    assert "importlib" not in text
    assert lines[-1].endswith("cannot be imported: ValueError: no setting")
    assert text.count("no setting") == 2  # in its own line, and in ours


def test_a_syntax_error_is_shown_at_its_place(folder):
    path = write(folder, "loaded_five.py", "def app(:\n")
    text = error(folder, "loaded_five:app")
    assert f'  File "{path}", line 1\n    def app(:\n' in text
    assert text.count("SyntaxError") == 1  # not once more above the last line
    assert "Traceback" not in text


def test_a_module_that_the_application_misses_is_its_own_error(folder):
    write(folder, "loaded_six.py", "import not_installed")
    text = error(folder, "loaded_six:app")
    assert "import not_installed" in text
    assert "cannot be imported: ModuleNotFoundError" in text


def test_an_application_that_exits_is_an_error(folder):
    write(folder, "loaded_seven.py", "import sys\nsys.exit('bye')")
    assert "SystemExit: bye" in error(folder, "loaded_seven:app")


def test_a_factory_that_fails_is_shown_from_its_own_file_on(folder):
    path = write(folder, "loaded_eight.py", "def make():\n    1 / 0\n")
    text = error(folder, "loaded_eight:make", factory=True)
    assert f'"{path}", line 2' in text.splitlines()[1]
    assert (
        text.splitlines()[-1] == "the factory loaded_eight:make failed: ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def app(environ, start_response): ...", "WSGI"),
        (
            "class app:\n    def __call__(self, environ, start_response): ...\napp = app()",
            "a2wsgi.WSGIMiddleware",
        ),
        ("class app:\n    def __init__(self, scope): ...", "ASGI 2"),
        ("class app: ...", "is a class that has neither `async def __call__"),
        ("def app(scope): ...", "asgiref.compatibility.guarantee_single_callable"),
        ("def app(): ...", "(factory=True)"),
        (
            "class app:\n    async def __call__(self, scope, receive, send): ...",
            "name one, as in app = app(...)",
        ),
    ],
)
def test_what_does_not_take_three_arguments_is_told_what_it_is(folder, source, told):
    path = write(folder, "loaded_ten.py", source)
    text = error(folder, f"{path}:app")
    assert "not (scope, receive, send)" in text or "is a class" in text
    assert told in text


@pytest.mark.parametrize(
    "source",
    [
        "async def app(scope): ...",
        "async def app(receive, send): ...",
        "class app:\n    def __call__(self, receive, send): ...\napp = app()",
        "async def app(scope, receive, send, more): ...",
    ],
)
def test_what_is_of_no_kind_that_is_known_is_not_given_a_name(folder, source):
    path = write(folder, "loaded_ten.py", source)
    text = error(folder, f"{path}:app")
    assert text.endswith(", not (scope, receive, send)")


def test_a_coroutine_is_told_to_be_called_too_early(folder):
    path = write(folder, "loaded_ten.py", "async def main(scope, receive, send): ...\napp = main(1, 2, 3)")
    assert "is a coroutine already" in error(folder, f"{path}:app")
    assert "the parentheses behind main" in error(folder, f"{path}:app")


def test_an_instance_that_cannot_be_called_is_told_what_its_class_misses(folder):
    path = write(folder, "loaded_ten.py", "class App: ...\napp = App()")
    assert "has no __call__(self, scope, receive, send)" in error(folder, f"{path}:app")


# An application that a decorator says to be another function.
WRAPPED = "import functools, inspect\n{}\n@functools.wraps(of)\n{}"


@pytest.mark.parametrize(
    "source",
    [
        "class app:\n    def __init__(self, scope, receive, send): ...\n    def __await__(self): ...",
        "class App:\n    async def __call__(self, *arguments): ...\napp = App()",
        "import functools\nasync def of(site, scope, receive, send): ...\napp = functools.partial(of, 1)",
        "async def inner(*a): ...\ndef app(scope, receive, send): return inner(scope, receive, send)",
        "async def inner(*a): ...\ndef app(scope, receive, send):\n    if scope: return inner(scope, receive, send)",
        "async def inner(*a): ...\ndef app(*a):\n    return None if a else inner(a)",
        "async def inner(*a): ...\ndef app(*a):\n    return inner(a) if a else None",
        "async def inner(*a): ...\ndef app(*a):\n    try:\n        return a and inner(a)\n    finally: a",
        "async def inner(*a): ...\nclass App:\n    def __call__(self, *a): return inner(*a)\napp = App()",
        "def app(scope, receive, send): raise NotImplementedError",
        "import types\n@types.coroutine\ndef app(scope, receive, send): yield",
        "app = print",
        WRAPPED.format("def of(request): ...", "async def app(scope, receive, send): ..."),
        WRAPPED.format("def of(request): ...", "async def app(*arguments): ..."),
        WRAPPED.format("class of:\n    def __init__(self, scope): ...", "async def app(s, r, w): ..."),
        WRAPPED.format("def of(): ...\nof.__signature__ = inspect.signature(of)", "async def app(*a): ..."),
        WRAPPED.format("def of(): ...", "def app(*a): return of(*a)"),
        "class Meta(type):\n    async def __call__(self, *a): ...\nclass app(metaclass=Meta): ...",
        "async def inner(): ...\nclass app:\n    def __new__(cls, *a): return inner()",
        "class Base:\n    def __init__(self, *a): ...\n    def __await__(self): ...\nclass app(Base): ...",
        "import abc\nclass app(abc.ABC):\n    def __init__(self, *a): ...\n    def __await__(self): ...",
        "from unittest.mock import AsyncMock\napp = AsyncMock()",
        "class App:\n    async def handle(self, scope, receive, send): ...\napp = App().handle",
        "class App:\n    @staticmethod\n    async def __call__(scope, receive, send): ...\napp = App()",
        "class App:\n    @classmethod\n    async def __call__(cls, scope, receive, send): ...\napp = App()",
    ],
)
def test_what_takes_three_arguments_may_be_one(folder, source):
    path = write(folder, "loaded_eleven.py", source)
    assert load(folder, f"{path}:app")


DEF = "is declared with `def`, and returns nothing that could be awaited: say `async def`"
GENERATOR = "has a `yield` in it, so that a call makes a generator, which cannot be awaited"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def app(scope, receive, send): ...", DEF),
        ("def app(scope, receive, send):\n    send(1)", DEF),
        ("def app(scope, receive, send):\n    if scope: return\n    for each in scope: send(each)", DEF),
        ("def app(scope, receive, send):\n    with scope:\n        return None", DEF),
        ("app = lambda scope, receive, send: None", DEF),
        (WRAPPED.format("async def of(*a): ...", "def app(*a): of(*a)"), DEF),
        (
            "import functools\ndef of(one, *arguments): ...\napp = functools.partial(of, 1)",
            DEF,
        ),
        (
            "class App:\n    def __call__(self, scope, receive, send): ...\napp = App()",
            "has a __call__ which " + DEF,
        ),
        ("class App:\n    def handle(self, scope, receive, send): ...\napp = App().handle", DEF),
        ("def app(scope, receive, send):\n    yield", GENERATOR),
        ("async def app(scope, receive, send):\n    yield", GENERATOR),
        (
            "class app:\n    def __init__(self, scope, receive, send): ...",
            "is a class whose instances cannot be awaited; give it `def __await__(self)`, or in place of __init__ an `async def __call__(self, scope, receive, send)`, and name an instance",
        ),
        (
            "class app:\n    def __init__(self, *a): ...\n    async def __call__(self, scope, receive, send): ...",
            "is a class, and its instances are the applications: name one, as in app = app(...)",
        ),
    ],
)
def test_what_can_never_be_awaited_is_told_before_it_is_called(folder, source, told):
    path = write(folder, "loaded_awaited.py", source)
    assert error(folder, f"{path}:app").endswith(f") {told}")


def test_it_is_told_where_the_application_was_defined(folder, monkeypatch):
    monkeypatch.setenv("PWD", str(folder))
    source = "\n\ndef one(): ...\nclass Two:\n    def handle(self): ...\ntwo, three, four = Two(), Two().handle, 4\n"
    path = write(folder, "loaded_defined.py", source)
    for name, place in (("one", "line 3"), ("Two", "line 4"), ("two", "line 4"), ("three", "line 5")):
        assert f"{path}:{name} (loaded_defined.py, {place}) " in error(folder, f"{path}:{name}")
    assert f"{path}:four is an int" in error(folder, f"{path}:four")


def test_a_factory_that_is_a_coroutine_function_or_exits_is_told(folder):
    path = write(folder, "loaded_twelve.py", "async def make(): ...\ndef leave():\n    raise SystemExit(5)")
    assert "is a coroutine function" in error(folder, f"{path}:make", factory=True)
    itself = write(folder, "loaded_itself.py", "async def app(scope, receive, send): ...")
    told = "takes (scope, receive, send): no factory; leave out factory=True?"
    assert error(folder, f"{itself}:app", factory=True).endswith(told)
    assert error(folder, f"{path}:leave", factory=True).endswith("failed: SystemExit: 5")


def test_an_error_that_cannot_be_shown_is_shown_as_far_as_it_can(folder):
    source = "class Odd(BaseException):\n    def __str__(self):\n        raise ValueError\nraise Odd"
    path = write(folder, "loaded_thirteen.py", source)
    assert "loaded_thirteen.py cannot be imported: " in error(folder, f"{path}:app").splitlines()[-1]


def test_an_error_of_many_lines_ends_in_its_first(folder):
    path = write(folder, "loaded_fourteen.py", "raise ValueError('one\\ntwo')")
    text = error(folder, f"{path}:app")
    assert text.endswith("ValueError: one\ntwo\n" + f"{path} cannot be imported: ValueError: one")


def test_a_file_whose_import_failed_can_be_mended_and_loaded_again(folder):
    path = write(folder, "loaded_nine.py", "1 / 0")
    error(folder, f"{path}:app")
    assert "loaded_nine" not in sys.modules
