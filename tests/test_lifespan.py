"""The lifespan conversation."""

import asyncio
import json
import threading
import weakref

import pytest

from miniasgi import lifespan as module
from miniasgi.asgi import ASGIError
from miniasgi.lifespan import SEND, Lifespan, StartupFailed, State, alarm


def lifespan(app, mode="auto", timeout=5.0, state=None):
    return Lifespan(app, mode, timeout, {} if state is None else state)


def conversation(*messages, then=None, first=None):
    """An application that receives startup, sends the messages, receives shutdown, and sends `then`."""

    async def app(scope, receive, send):
        if first is not None:
            raise first
        assert await receive() == {"type": "lifespan.startup"}
        scope["state"]["started"] = True
        for message in messages:
            await send(message)
        assert await receive() == {"type": "lifespan.shutdown"}
        app.told = True
        if then is not None:
            await send(then)

    app.told = False
    return app


COMPLETE = {"type": "lifespan.startup.complete"}
FAILED = {"type": "lifespan.startup.failed", "message": "no database"}
DOWN = {"type": "lifespan.shutdown.complete"}


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_an_application_with_a_lifespan_starts_and_shuts_down(mode, caplog):
    state = {}
    app = conversation(COMPLETE, then=DOWN)
    running = lifespan(app, mode, state=state)
    await running.startup()
    assert state == {"started": True}
    assert running.scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    await running.shutdown()
    assert app.told
    assert not caplog.records


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_startup_failed_carries_the_applications_reason(mode):
    with pytest.raises(StartupFailed, match="startup failed: no database"):
        await lifespan(conversation(FAILED), mode).startup()


class Odd(Exception):
    pass


def raising(act):
    """An application that does this with its scope, before anything else."""

    async def app(scope, receive, send):
        act(scope)

    return app


def assert_http(scope):
    assert scope["type"] == "http"


def raise_error(error):
    raise error


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (assert_http, "AssertionError: assert 'lifespan' == 'http'"),
        (lambda _: raise_error(NotImplementedError), "NotImplementedError"),
        (
            lambda _: raise_error(ValueError("No application configured for scope type 'lifespan'")),
            "ValueError: No application configured for scope type 'lifespan'",
        ),
        (
            lambda _: raise_error(ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")),
            "ValueError: Django can only handle ASGI/HTTP connections, not lifespan.",
        ),
        (
            lambda _: raise_error(Odd("lifespan is not for me")),
            "tests.test_lifespan.Odd: lifespan is not for me",
        ),
        (lambda scope: {"http": 1}[scope["type"]], "KeyError: 'lifespan'"),
        (lambda scope: scope["path"], "KeyError: 'path'"),  # it does not look at the type
        (
            lambda scope: raise_error(NotImplementedError(f"no {scope.pop('type')}")),
            "NotImplementedError: no",
        ),
    ],
)
async def test_an_application_that_refuses_the_lifespan_has_none_which_is_told_calmly(caplog, act, told):
    caplog.set_level("INFO")
    running = lifespan(raising(act))
    await running.startup()
    await running.shutdown()
    [record] = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage().startswith(f"The application has no lifespan: it raised {told}")
    assert "\n" not in caplog.text.strip()


async def test_an_application_that_does_not_look_at_the_type_of_its_scope_has_no_lifespan(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    caplog.set_level("INFO")
    await lifespan(app).startup()
    [record] = caplog.records
    assert record.levelname == "INFO"
    assert "http.response.start was sent, but scope['type'] is 'lifespan' here" in record.getMessage()
    assert "\n" not in caplog.text.strip()


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda scope: scope.lifespan, "AttributeError: 'dict' object has no attribute 'lifespan'"),
        (
            lambda scope: assert_http(),
            "TypeError: assert_http() missing 1 required positional argument: 'scope'",
        ),
        (lambda scope: json.loads("{"), "json.decoder.JSONDecodeError: Expecting property name"),
        (lambda _: raise_error(ASGIError("there is no message of type 'lifespan.x' to send")), "ASGIError: "),
        (lambda _: raise_error(RuntimeError("no database")), "RuntimeError: no database"),
    ],
)
async def test_a_lifespan_that_looks_broken_is_warned_of_with_its_line(caplog, act, told):
    running = lifespan(raising(act))
    await running.startup()
    await running.shutdown()
    [record] = caplog.records
    assert record.levelname == "WARNING"
    text = record.getMessage()
    assert text.startswith("The application's lifespan failed in tests/test_lifespan.py, line ")
    assert "; served without it" in text
    assert text.endswith("(if it is to have none, say lifespan='off')")
    lines = caplog.text.splitlines()
    assert len(lines) == 2
    assert told in lines[1]


@pytest.mark.parametrize(
    "act",
    [
        lambda message, send: message["body"],
        lambda message, send: send({"type": "http.response.start", "status": 200}),
    ],
)
async def test_an_application_that_takes_the_startup_for_a_request_is_told_what_to_do(act):
    async def app(scope, receive, send):
        await act(await receive(), send)

    with pytest.raises(StartupFailed) as failed:
        await lifespan(app).startup()
    assert "; does it take the startup for a request? For scope['type'] 'lifespan', raise" in str(
        failed.value
    )
    assert "lifespan='off'" in str(failed.value)


async def test_an_application_that_returns_has_no_lifespan(caplog):
    async def app(scope, receive, send):
        return

    caplog.set_level("INFO")
    running = lifespan(app)
    await running.startup()
    await running.shutdown()
    assert [each.getMessage() for each in caplog.records] == [
        "The application has no lifespan: it returned without an answer"
    ]


async def test_with_on_an_application_without_lifespan_does_not_start():
    error = ValueError("http only")
    with pytest.raises(StartupFailed, match="http only on lifespan, and lifespan='on' says") as caught:
        await lifespan(conversation(first=error), "on").startup()
    assert caught.value.__cause__ is error


async def test_with_off_the_application_is_not_asked():
    async def app(scope, receive, send):
        raise AssertionError

    running = lifespan(app, "off")
    await running.startup()
    await running.shutdown()


async def test_what_is_raised_behind_the_answer_is_told_before_anybody_is_served():
    told = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise KeyError("token")

    await Lifespan(app, "auto", 5.0, {}, lambda level, text, error: told.append(error)).startup()
    assert [type(error) for error in told] == [KeyError]


async def test_an_application_that_raises_after_it_received_has_failed():
    error = ValueError("no setting")

    async def app(scope, receive, send):
        await receive()
        raise error

    with pytest.raises(StartupFailed, match="raised during startup") as caught:
        await lifespan(app).startup()
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("shutdown", [False, True])
async def test_a_cancellation_that_nobody_asked_for_is_told_behind_the_startup_too(shutdown):
    told = []

    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)
        if shutdown:
            await receive()
        raise asyncio.CancelledError

    running = Lifespan(app, "auto", 5.0, {}, lambda level, text, error: told.append(error))
    await running.startup()
    await running.shutdown()
    assert [type(error) for error in told] == [asyncio.CancelledError]


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_a_startup_that_ends_in_a_cancellation_of_its_own_has_failed(mode):
    async def app(scope, receive, send):
        await receive()
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with pytest.raises(StartupFailed, match="CancelledError"):
        await lifespan(app, mode).startup()


async def test_a_startup_that_exits_has_failed():
    async def app(scope, receive, send):
        await receive()
        raise SystemExit(7)

    with pytest.raises(StartupFailed, match=r"sys\.exit\(7\)"):
        await lifespan(app).startup()


async def test_a_startup_that_takes_too_long_is_cancelled_and_told_where_it_waited():
    cleaned_up = []

    async def app(scope, receive, send):
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.append(True)

    with pytest.raises(StartupFailed, match=r"did not start within 0\.01 s \(timeout_lifespan\): ") as caught:
        await lifespan(app, timeout=0.01).startup()
    assert cleaned_up
    assert str(caught.value).endswith("in app: await asyncio.Event().wait()")


async def test_a_shutdown_that_takes_too_long_is_cancelled_and_told_where_it_waited(caplog):
    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)
        await receive()
        await asyncio.Event().wait()

    running = lifespan(app, timeout=0.01)
    await running.startup()
    await running.shutdown()
    assert "shutdown was cancelled after 0.01 s (timeout_lifespan): tests/test_lifespan.py, " in caplog.text
    assert caplog.messages[0].endswith("in app: await asyncio.Event().wait()")


class Patience:
    """In place of an alarm: patience ends when `end` is called, and not by time."""

    def __init__(self, seconds, tell):
        Patience.now = self
        self.tell = tell
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.end = self.ended.set

    def run(self):
        if self.ended.wait(20) and self.tell is not None:
            self.tell()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *error):
        if not self.ended.is_set():
            self.tell = None
        self.ended.set()
        self.thread.join()


def test_an_alarm_comes_while_its_block_runs_and_not_after():
    rung = threading.Event()
    with alarm(0.01, rung.set):
        assert rung.wait(20)
    rung.clear()
    with alarm(0.05, rung.set):
        pass
    assert not rung.wait(0.1)


@pytest.fixture
def told(monkeypatch):
    """Set as soon as it is told that the application takes long; `.lines` is what was told."""
    event = threading.Event()
    event.lines = []

    def info(text, *arguments):
        event.lines.append(text % arguments)
        event.set()

    monkeypatch.setattr(module, "alarm", Patience)
    monkeypatch.setattr(module.log, "info", info)
    return event


@pytest.mark.parametrize("half", ["startup", "shutdown"])
@pytest.mark.parametrize("blocking", [False, True])
async def test_where_an_application_waits_that_takes_long_is_told(told, half, blocking):
    """Whether it waits, or keeps the loop from turning."""

    async def wait():
        asyncio.get_running_loop().call_soon(Patience.now.end)
        await asyncio.to_thread(told.wait, 20)

    async def block():
        Patience.now.end() or told.wait(20)

    async def app(scope, receive, send):
        for each in ("startup", "shutdown"):
            await receive()
            if each == half:
                await (block() if blocking else wait())
            await send({"type": f"lifespan.{each}.complete"})

    running = lifespan(app)
    await running.startup()
    await running.shutdown()
    [line] = told.lines
    assert line.startswith(f"Waiting for the application's {half}: tests/test_lifespan.py, line ")
    assert line.endswith(
        "in block: Patience.now.end() or told.wait(20)"
        if blocking
        else "in wait: await asyncio.to_thread(told.wait, 20)"
    )


async def test_an_application_that_starts_and_stops_in_time_is_told_nothing(caplog):
    caplog.set_level("INFO")
    running = lifespan(conversation(COMPLETE, then=DOWN))
    await running.startup()
    await running.shutdown()
    assert caplog.messages == []


async def test_a_failed_shutdown_is_logged(caplog):
    app = conversation(COMPLETE, then={"type": "lifespan.shutdown.failed", "message": "disk full"})
    running = lifespan(app)
    await running.startup()
    await running.shutdown()
    assert "shutdown failed: disk full" in caplog.text


async def test_an_error_during_shutdown_is_logged_with_its_traceback(caplog):
    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)
        await receive()
        raise ValueError("at the end")

    running = lifespan(app)
    await running.startup()
    await running.shutdown()
    assert "ValueError: at the end" in caplog.text


async def test_an_application_whose_lifespan_ended_early_shuts_down_silently(caplog):
    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)

    running = lifespan(app)
    await running.startup()
    await asyncio.sleep(0)
    await running.shutdown()
    assert not caplog.records


async def test_messages_out_of_order_are_raised_from_send():
    errors = []

    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)
        for message in (COMPLETE, DOWN, {"type": "lifespan.startup.compleet"}, None):
            try:
                await send(message)
            except ASGIError as error:
                errors.append(str(error))
        await receive()
        await send(DOWN)
        try:
            await send(DOWN)
        except ASGIError as error:
            errors.append(str(error))

    running = lifespan(app)
    await running.startup()
    await running.shutdown()
    assert len(errors) == 5
    assert "between startup and shutdown" in errors[0]
    assert "after the lifespan was over" in errors[4]


def test_every_state_has_its_row():
    assert set(SEND) == set(State)


def test_an_alarm_keeps_nothing_behind_its_block():
    class Act:
        def __call__(self):
            raise AssertionError("in time")

    for _ in range(100):
        act = Act()
        kept = weakref.ref(act)
        with alarm(60, act):
            pass
        del act
        assert kept() is None  # also while its thread has not come to its end
