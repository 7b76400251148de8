"""What goes wrong in the application is raised in the test."""

import asyncio
import dataclasses
import logging
import re

import httpx
import pytest

from miniasgi.testing import ApplicationFault, connect, serve
from tests.applications import respond

from .applications import failing, hello


def errors_of(raised):
    return raised.value.exceptions


def test_what_the_application_raises_is_raised_at_the_end_with_a_note_of_its_request(caplog):
    with pytest.raises(ExceptionGroup, match="errors in the application") as raised, serve(failing) as server:
        assert httpx.get(server.url + "/ValueError?x").status_code == 500
        assert httpx.get(server.url + "/KeyError").status_code == 500
        assert httpx.get(server.url).status_code == 200
    first, second = errors_of(raised)
    assert (type(first), str(first)) == (ValueError, "as asked")
    assert type(second) is KeyError
    port = server.exchanges[0].scope["client"][1]
    assert first.__notes__ == [f"GET /ValueError from 127.0.0.1:{port}: the application raised"]
    assert [each.tb_frame.f_code.co_name for each in frames(first)] == ["failing"]
    assert caplog.records == []  # once is enough


def frames(error):
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


async def test_in_the_loop_too():
    with pytest.raises(ExceptionGroup) as raised:
        async with serve(failing) as server, httpx.AsyncClient() as client:
            await client.get(server.url + "/ValueError")
    assert isinstance(errors_of(raised)[0], ValueError)


async def test_without_a_socket_too():
    with pytest.raises(ExceptionGroup) as raised:
        async with connect(failing) as wire:
            await wire.send(b"GET /ValueError HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await wire.response()).status == 500
    assert isinstance(errors_of(raised)[0], ValueError)


def test_errors_may_be_collected(caplog):
    with serve(failing, errors="collect") as server:
        httpx.get(server.url + "/ValueError")
        server.wait_for(lambda: server.errors)
    assert [type(each) for each in server.errors] == [ValueError]
    assert caplog.records == []


def test_errors_may_be_left_to_the_log(caplog):
    with serve(failing, errors="ignore") as server:
        httpx.get(server.url + "/ValueError")
        server.wait_for(lambda: server.exchanges[-1].ended)
    assert server.errors == []
    assert "the application raised" in caplog.text
    assert "ValueError: as asked" in caplog.text


def test_sys_exit_is_no_exit():
    with pytest.raises(ExceptionGroup) as raised, serve(failing) as server:
        assert httpx.get(server.url + "/SystemExit").status_code == 500
    (error,) = errors_of(raised)
    assert isinstance(error, ApplicationFault)
    assert str(error).endswith("the application raised SystemExit('as asked')")
    assert isinstance(error.__cause__, SystemExit)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [Frozen(1), Mute()])
def test_an_error_of_whatever_kind_is_raised(error):
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        raise error

    with pytest.raises(ExceptionGroup) as raised, serve(app) as server:
        server.expect(Exception, match="never").errors.append(None)  # so that it is not missed
        assert httpx.get(server.url).status_code == 500
    assert errors_of(raised) == (error,)


async def silent(scope, receive, send):
    assert scope["type"] == "http"


def test_no_answer_is_a_fault():
    with pytest.raises(ExceptionGroup) as raised, serve(silent) as server:
        assert httpx.get(server.url).status_code == 500
    (error,) = errors_of(raised)
    assert isinstance(error, ApplicationFault)
    assert "the application returned without an answer: it sent no http.response.start" in str(error)


def test_a_client_that_leaves_is_no_fault():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        while (await receive())["type"] != "http.disconnect":
            pass
        await respond(send, b"ok")  # raises ClientDisconnected

    with serve(app) as server:
        client = server.raw()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.reset()
        exchange = server.wait_for("http.disconnect")
        server.wait_for(lambda: exchange.ended)
    assert type(exchange.error).__name__ == "ClientDisconnected"


# ---- expected ---------------------------------------------------------------------------------------------


def test_what_is_expected_is_not_raised():
    with serve(failing) as server:
        server.expect(ValueError)
        httpx.get(server.url + "/ValueError")
        httpx.get(server.url + "/ValueError")
    assert len(server.errors) == 2


def test_what_is_expected_may_have_come_already():
    with serve(failing) as server:
        httpx.get(server.url + "/ValueError")
        server.wait_for(lambda: server.errors)
        assert str(server.expect(ValueError).error) == "as asked"


def test_only_what_is_expected():
    with pytest.raises(ExceptionGroup) as raised, serve(failing) as server:
        server.expect(ValueError)
        httpx.get(server.url + "/ValueError")
        httpx.get(server.url + "/KeyError")
    assert [type(each) for each in errors_of(raised)] == [KeyError]


def test_what_is_expected_and_does_not_come_is_an_error():
    with pytest.raises(ExceptionGroup) as raised, serve(failing) as server:
        expected = server.expect((ValueError, KeyError), match="asked")
        with pytest.raises(AssertionError, match="raised no ValueError or KeyError that matches 'asked'"):
            expected.error  # noqa: B018
    (error,) = errors_of(raised)
    assert str(error) == "the application raised no ValueError or KeyError that matches 'asked'"


def test_expected_for_a_block():
    with serve(failing) as server:
        with server.expect(ValueError, match="^as") as expected:
            httpx.get(server.url + "/ValueError")
        assert str(expected.error) == "as asked"


async def test_expected_for_a_block_in_the_loop():
    async with serve(failing) as server, httpx.AsyncClient() as client:
        async with server.expect(ValueError) as expected:
            await client.get(server.url + "/ValueError")
        assert len(expected.errors) == 1


def test_a_block_that_expects_in_vain_says_so_at_its_end():
    with serve(failing, errors="collect") as server:
        block = server.expect(ValueError)
        with pytest.raises(AssertionError, match="raised no ValueError"), block:
            httpx.get(server.url)


def test_a_group_is_what_its_errors_are():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        raise ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [ValueError()])])

    with serve(app) as server:
        server.expect(ValueError)
        httpx.get(server.url)


# ---- strict -----------------------------------------------------------------------------------------------


async def upper(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Upper", b"1")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def late(scope, receive, send):
    assert scope["type"] == "http"
    await respond(send, b"ok")
    await respond(send, b"again")


async def swallowing(scope, receive, send):
    assert scope["type"] == "http"
    try:
        await send({"type": "http.response.begin"})
    except Exception:
        await respond(send, b"ok")


MISUSES = {
    upper: "is in upper case|lower",
    late: "ignored a message of the application: http.response.start was sent after the response was complete",
    swallowing: "http.response.begin",
}


@pytest.mark.parametrize("app", MISUSES, ids=lambda app: app.__name__)
def test_misuse_that_is_served_all_the_same_is_a_fault_where_that_is_asked_for(app):
    with serve(app) as server:
        assert httpx.get(server.url).status_code == 200
    with pytest.raises(ExceptionGroup) as raised, serve(app, strict=True) as server:
        assert httpx.get(server.url).status_code == 200
        server.wait_for(lambda: server.exchanges[-1].ended)
    assert len(errors_of(raised)) == 1
    assert re.search(MISUSES[app], str(errors_of(raised)[0]))


def test_what_is_raised_and_not_swallowed_is_told_once():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.begin"})

    with pytest.raises(ExceptionGroup) as raised, serve(app, strict=True) as server:
        httpx.get(server.url)
    assert len(errors_of(raised)) == 1


def test_a_right_application_is_right_for_the_strict_too():
    with serve(hello, strict=True) as server:
        httpx.get(server.url)


# ---- frameworks -------------------------------------------------------------------------------------------


def test_starlette_and_fastapi_raise_through():
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def boom(request):
        raise LookupError("in a view")

    fastapi = FastAPI()

    @fastapi.get("/")
    async def boom_too():
        raise LookupError("in a view")

    for app in (Starlette(routes=[Route("/", boom)]), fastapi):
        with serve(app) as server:
            server.expect(LookupError, "in a view")
            assert httpx.get(server.url).status_code == 500


def test_an_error_in_a_thread_of_the_applications():
    def work():
        raise LookupError("in a thread")

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await asyncio.to_thread(work)

    with serve(app) as server:
        server.expect(LookupError)
        httpx.get(server.url)


def test_the_level_of_the_log_is_of_no_account():
    logger = logging.getLogger("miniasgi")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with serve(failing) as server:
            server.expect(ValueError)
            httpx.get(server.url + "/ValueError")
    finally:
        logger.setLevel(before)


def test_an_error_without_a_text_that_is_no_exception_is_told_all_the_same():
    class Nameless(BaseException):
        def __repr__(self):
            raise RuntimeError("no text")

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        raise Nameless

    with pytest.raises(ExceptionGroup) as raised, serve(app) as server:
        assert httpx.get(server.url).status_code == 500
    (error,) = errors_of(raised)
    assert "the application raised <Nameless instance" in str(error)


async def in_the_background(scope, receive, send):
    """Begins a task, or asks for a callback, that raises, and has forgotten it."""

    async def task():
        raise LookupError("as asked")

    def callback():
        raise LookupError("as asked")

    assert scope["type"] == "http"
    if scope["path"] == "/task":
        asyncio.create_task(task())  # noqa: RUF006
    else:
        asyncio.get_running_loop().call_soon(callback)
    await asyncio.sleep(0)
    await respond(send, b"ok")


@pytest.mark.parametrize("path", ["/task", "/callback"])
def test_what_runs_beside_the_requests_is_raised_too(path, caplog):
    with pytest.raises(ExceptionGroup) as raised, serve(in_the_background) as server:
        assert httpx.get(server.url + path).status_code == 200
    (error,) = errors_of(raised)
    assert (type(error), str(error)) == (LookupError, "as asked")
    assert "in the loop" in error.__notes__[0]
    assert caplog.records == []
