"""The plugin of pytest: fixtures that serve, errors raised in the test, the conversation of one that failed.

pytest loads it into every run. So it imports next to nothing, until a test asks for a server.
"""

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..asgi import Application
    from .thread import LiveServer

    Start = Callable[..., LiveServer]

STRICT = "--asgi-strict"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("miniasgi", "a real ASGI server in tests")
    group.addoption(STRICT, action="store_true", help="any misuse of ASGI by the application fails the test")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "asgi_app(app): what the fixture asgi_server serves: an application, or 'module:attribute'"
    )
    if config.getoption(STRICT):
        from .served import Strictness

        Strictness.default = True


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.getoption(STRICT):
        from .served import Strictness

        Strictness.default = False


# ---- fixtures ---------------------------------------------------------------------------------------------


@pytest.fixture
def asgi_app(request: pytest.FixtureRequest) -> "Application | str | None":
    """What `asgi_server` serves: as the mark `asgi_app` says. To be overridden by a fixture of your own."""
    marker = request.node.get_closest_marker("asgi_app")
    if marker is None:
        return None
    if len(marker.args) != 1 or marker.kwargs:
        raise pytest.UsageError("the mark asgi_app takes one thing: an application, or 'module:attribute'")
    return marker.args[0]  # type: ignore[no-any-return]


@pytest.fixture
def asgi_server(request: pytest.FixtureRequest, asgi_app: "Application | str | None") -> Iterator["Start"]:
    """`server = asgi_server()`: a server in a thread, for this test. Takes what `serve` takes.

    Without an application it serves `asgi_app`. The servers stop when the test function has returned, which
    then raises what has gone wrong in their applications.
    """
    servers = request.node.stash[SERVERS] = ServersOfTest()

    def start(app: "Application | str | None" = None, **options: Any) -> "LiveServer":
        __tracebackhide__ = True  # pytest leaves this frame out
        return servers.start(asgi_app if app is None else app, options)

    yield start
    act(servers.end(None))  # in case that the test function never ran


@pytest.fixture(scope="session")
def asgi_server_session(request: pytest.FixtureRequest) -> Iterator["Start"]:
    """`server = asgi_server_session(app)`: one server in a thread for all tests that ask for the same.

    Its exchanges and errors are those of the test that runs.
    """
    servers = request.config.stash[SESSION] = ServersOfSession()

    def start(app: "Application | str", **options: Any) -> "LiveServer":
        __tracebackhide__ = True  # pytest leaves this frame out
        return servers.start(app, options)

    yield start
    del request.config.stash[SESSION]
    act(servers.end())


class ServersOfTest:
    """Made by the fixture `asgi_server` for one test."""

    def __init__(self) -> None:
        self.servers: list[LiveServer] = []

    def start(self, app: "Application | str | None", options: dict[str, Any]) -> "LiveServer":
        __tracebackhide__ = True  # pytest leaves this frame out
        if app is None:
            raise pytest.UsageError(
                "asgi_server() has no application: give it one, override the fixture asgi_app, "
                "or mark the test with @pytest.mark.asgi_app('module:attribute')"
            )
        server = started(app, options)
        self.servers.append(server)
        return server

    def end(self, error: BaseException | None) -> Iterator[Callable[[], None]]:
        """What stops each of them, and raises what went wrong in its application. `error` ended the test."""
        while self.servers:
            yield partial(self.servers.pop().stop, error)


class ServersOfSession:
    """Made by the fixture `asgi_server_session`."""

    def __init__(self) -> None:
        self.servers: dict[Any, LiveServer] = {}

    def start(self, app: "Application | str", options: dict[str, Any]) -> "LiveServer":
        __tracebackhide__ = True  # pytest leaves this frame out
        # By their text: an option that has no hash is not refused here, but with what is wrong with it.
        key = (app if isinstance(app, str) else id(app), repr(sorted(options.items())))
        if key not in self.servers:
            self.servers[key] = started(app, options)
        return self.servers[key]

    def begin_test(self) -> None:
        for each in self.servers.values():
            each.begin_anew()

    def end_test(self, error: BaseException | None) -> Iterator[Callable[[], None]]:
        """What raises what went wrong in the test, of each of them. `error` ended it."""
        for key, each in list(self.servers.items()):
            if each.ended.is_set():  # by its application; the next test that asks has another one
                del self.servers[key]
                yield partial(each.stop, error)
            else:
                yield partial(each.settle_test, error)

    def end(self) -> Iterator[Callable[[], None]]:
        for each in self.servers.values():
            yield partial(each.stop, None)


def started(app: "Application | str", options: dict[str, Any]) -> "LiveServer":
    from .served import Options
    from .thread import LiveServer

    __tracebackhide__ = True  # pytest leaves this frame out
    return LiveServer(Options(app, **options)).start()


def act(acts: Iterable[Callable[[], None]]) -> None:
    """Do all of it, and raise then what was raised: without the way it came, of which each step is ours."""
    __tracebackhide__ = True  # pytest leaves this frame out
    raised = []
    for each in acts:
        try:
            each()
        except Exception as error:
            raised.append(error.with_traceback(None))
    if len(raised) > 1:
        raise ExceptionGroup("errors in several applications", raised)
    if raised:
        raise raised[0]


SERVERS = pytest.StashKey[ServersOfTest]()
SESSION = pytest.StashKey[ServersOfSession]()
BEGAN = pytest.StashKey[float]()


# ---- a test -----------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    item.stash[BEGAN] = time.monotonic()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """The servers of a test end with its function: so it is the test that fails, and not its teardown."""
    session = item.config.stash.get(SESSION, None)
    if session is not None:
        session.begin_test()
    __tracebackhide__ = True  # pytest leaves this frame out
    with ExitStack() as stack:
        if item.config.getoption(STRICT):
            from .strict import unawaited_raised

            stack.enter_context(unawaited_raised())
        try:
            result = yield
        except BaseException as error:
            act(end(item, error))
            raise
        act(end(item, None))
        return result


def end(item: pytest.Item, error: BaseException | None) -> Iterator[Callable[[], None]]:
    if (servers := item.stash.get(SERVERS, None)) is not None:
        yield from servers.end(error)
    if (session := item.config.stash.get(SESSION, None)) is not None:
        yield from session.end_test(error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and f"{__package__}.served" in sys.modules:
        from .report import conversations

        if text := conversations(item.stash[BEGAN]):
            report.sections.append(("miniasgi: what was said in this test", text))
    return report
