"""The lifespan conversation."""

import asyncio

import pytest

from miniasgi.asgi import ASGIError
from miniasgi.lifespan import SEND, Lifespan, StartupFailed, State


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


async def test_an_application_that_raises_before_it_received_has_no_lifespan(caplog):
    caplog.set_level("INFO")
    running = lifespan(conversation(first=ValueError("http only")))
    await running.startup()
    await running.shutdown()
    [record] = caplog.records
    assert "Served without startup and shutdown" in record.getMessage()
    assert "raised ValueError: http only" in record.getMessage()


async def test_an_application_that_returns_has_no_lifespan(caplog):
    async def app(scope, receive, send):
        return

    running = lifespan(app)
    await running.startup()
    await running.shutdown()


async def test_with_on_an_application_without_lifespan_does_not_start():
    error = ValueError("http only")
    with pytest.raises(StartupFailed, match="--lifespan is on") as caught:
        await lifespan(conversation(first=error), "on").startup()
    assert caught.value.__cause__ is error


async def test_with_off_the_application_is_not_asked():
    async def app(scope, receive, send):
        raise AssertionError

    running = lifespan(app, "off")
    await running.startup()
    await running.shutdown()


async def test_an_application_that_raises_after_it_received_has_failed():
    error = ValueError("no setting")

    async def app(scope, receive, send):
        await receive()
        raise error

    with pytest.raises(StartupFailed, match="raised during startup") as caught:
        await lifespan(app).startup()
    assert caught.value.__cause__ is error


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


async def test_a_startup_that_takes_too_long_is_cancelled():
    cleaned_up = []

    async def app(scope, receive, send):
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.append(True)

    with pytest.raises(StartupFailed, match=r"did not start within 0\.01 s"):
        await lifespan(app, timeout=0.01).startup()
    assert cleaned_up


async def test_a_shutdown_that_takes_too_long_is_cancelled(caplog):
    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)
        await receive()
        await asyncio.Event().wait()

    running = lifespan(app, timeout=0.01)
    await running.startup()
    await running.shutdown()
    assert "shutdown was cancelled after 0.01 s" in caplog.text


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
