"""Applications that `miniasgi check` is tried on, as `tests.check_applications:name`. Each has one fault, or none."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from types import SimpleNamespace

from tests.applications import respond

kept = []  # what would otherwise be collected: the loop holds its tasks weakly


def application(http=None, websocket=None, started=None, stopped=None):
    """An application of these parts; what it has no part for, it raises on."""
    parts = {"http": http, "websocket": websocket}

    async def lifespan(receive, send):
        await receive()
        if started is not None:
            await started()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if stopped is not None:
            await stopped()
        await send({"type": "lifespan.shutdown.complete"})

    async def app(scope, receive, send):
        if scope["type"] == "lifespan" and (started or stopped):
            await lifespan(receive, send)
        elif parts.get(scope["type"]) is not None:
            await parts[scope["type"]](scope, receive, send)
        else:
            raise ValueError(f"no {scope['type']} here")

    return app


async def answer(scope, receive, send):
    await respond(send, b"hello", headers=[(b"content-type", b"text/plain")])


async def accept(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def nothing(*_):
    pass


async def forever(*_):
    await asyncio.Event().wait()


sound = application(answer, accept, nothing, nothing)
only_http = application(answer)


def make():
    return sound


# ---- wrong messages ----


async def send_str(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": "text"})


async def swallow(scope, receive, send):
    try:
        await send({"type": "http.response.body", "body": b"too early"})
    except RuntimeError:
        await answer(scope, receive, send)


async def send_without_await(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    send({"type": "http.response.body", "body": b"lost", "more_body": True})
    await send({"type": "http.response.body"})


async def send_late(scope, receive, send):
    await answer(scope, receive, send)
    await send({"type": "http.response.body", "body": b"too late"})


async def upper_case(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/plain")]})
    await send({"type": "http.response.body"})


async def call_without_await(scope, receive, send):
    nothing()
    await answer(scope, receive, send)


async def make_a_ring(scope, receive, send):
    ring = [nothing()]
    ring.append(ring)
    await answer(scope, receive, send)


async def call_a_library_without_await(scope, receive, send):
    asyncio.sleep(1)
    await answer(scope, receive, send)


async def call_in_a_thread(scope, receive, send):
    await asyncio.to_thread(lambda: bool(nothing()))
    await answer(scope, receive, send)


async def call_nothing():
    nothing()


async def keep_a_coroutine():
    asyncio.current_task().kept = nothing()


async def run_a_loop(scope, receive, send):
    asyncio.run(nothing())


async def accept_anything(scope, receive, send):
    await send({"type": "websocket.accept"})


wrong_type = application(send_str)
swallowed = application(swallow)
without_await = application(send_without_await)
without_await_of_its_own = application(call_without_await)
without_await_in_a_ring = application(make_a_ring)
without_await_of_a_library = application(call_a_library_without_await)
without_await_in_a_thread = application(call_in_a_thread)
run_inside = application(run_a_loop)
late_message = application(send_late)
upper_case_headers = application(upper_case)


async def unaware(scope, receive, send):
    await answer(scope, receive, send)


async def looks_for_method(scope, receive, send):
    assert scope["method"] == "GET"
    await answer(scope, receive, send)


http_to_websockets = application(answer, answer)
websockets_to_http = application(accept_anything)


# ---- refused, or broken ----


def refusing(refuse):
    """An application that answers requests, and does this at the begin of all else."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return refuse(scope)
        await answer(scope, receive, send)

    return app


def raise_it(error):
    raise error


async def asserts(scope, receive, send):
    assert scope["type"] == "http"
    await answer(scope, receive, send)


async def asserts_in_many_lines(scope, receive, send):
    assert (
        scope["type"]
        == "http"
    ), "wrong"  # fmt: skip
    await answer(scope, receive, send)


async def looks_up(scope, receive, send):
    await {"http": answer}[scope["type"]](scope, receive, send)


class OwnError(Exception):
    pass


def wsgi():
    from asgiref.wsgi import WsgiToAsgi

    def app(environ, start_response):
        start_response("200 OK", [("content-type", "text/plain")])
        return [b"hello"]

    return WsgiToAsgi(app)


REFUSALS = SimpleNamespace(
    returning=refusing(lambda scope: None),
    asserts=asserts,
    asserts_in_many_lines=asserts_in_many_lines,
    looks_up=looks_up,
    not_implemented=refusing(lambda scope: raise_it(NotImplementedError)),
    bare=refusing(lambda scope: raise_it(RuntimeError)),
    by_type=refusing(lambda scope: raise_it(RuntimeError(f"no {scope['type']} here"))),
    by_support=refusing(lambda scope: raise_it(OwnError("unsupported protocol"))),
    by_the_other=refusing(lambda scope: raise_it(ValueError("This is HTTP only"))),
    by_a_library=wsgi(),
)


def at_begin(websocket):
    return application(answer, websocket)


async def no_such_key(scope, receive, send):
    scope["user"]


async def no_such_name(scope, receive, send):
    websocket.accept()  # noqa: F821


async def no_such_attribute(scope, receive, send):
    scope.websocket()


async def no_such_module(scope, receive, send):
    import websocket  # noqa: F401


async def no_support(scope, receive, send):
    None["item"] = 1  # "does not support item assignment"


async def environment(scope, receive, send):
    os.environ["NO_SUCH_NAME_AT_ALL"]


async def first_a_message(scope, receive, send):
    await send({"type": "websocket.send", "text": "hello"})


async def accept_and_fail(scope, receive, send):
    await accept_anything(scope, receive, send)
    raise NotImplementedError("websocket")


async def receive_and_refuse(scope, receive, send):
    await receive()
    raise NotImplementedError("websocket")


async def starlette_without_accept(scope, receive, send):
    from starlette.websockets import WebSocket

    await WebSocket(scope, receive, send).receive_text()


async def starlette_with_a_message_before_accept(scope, receive, send):
    from starlette.websockets import WebSocket

    await WebSocket(scope, receive, send).send_text("hello")


async def starlette_without_sessions(scope, receive, send):
    from starlette.websockets import WebSocket

    assert WebSocket(scope, receive, send).session


BROKEN_WEBSOCKETS = SimpleNamespace(
    no_such_key=at_begin(no_such_key),
    no_such_name=at_begin(no_such_name),
    no_such_attribute=at_begin(no_such_attribute),
    no_such_module=at_begin(no_such_module),
    no_support=at_begin(no_support),
    environment=at_begin(environment),
    first_a_message=at_begin(first_a_message),
    accept_and_fail=at_begin(accept_and_fail),
    receive_and_refuse=at_begin(receive_and_refuse),
    starlette_without_accept=at_begin(starlette_without_accept),
    starlette_with_a_message_before_accept=at_begin(starlette_with_a_message_before_accept),
    starlette_without_sessions=at_begin(starlette_without_sessions),
)


def with_lifespan(lifespan):
    async def app(scope, receive, send):
        await (lifespan if scope["type"] == "lifespan" else only_http)(scope, receive, send)

    return app


async def receive_and_return(scope, receive, send):
    await receive()


async def misspell(scope, receive, send):
    await send({"type": "lifespan.startup.completed"})


async def complete_and_fail(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    raise KeyError("token")


BROKEN_LIFESPANS = SimpleNamespace(
    no_such_key=with_lifespan(no_such_key),
    no_such_name=with_lifespan(no_such_name),
    receive_and_return=with_lifespan(receive_and_return),
    misspell=with_lifespan(misspell),
    complete_and_fail=with_lifespan(complete_and_fail),
)


async def refusing_all(scope, receive, send):
    raise NotImplementedError


def without_route():
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.urls import path

    return ProtocolTypeRouter({"websocket": URLRouter([path("here", accept)])})


# ---- wrong answers ----


async def fail(scope, receive, send):
    raise KeyError("token")


async def fail_later(scope, receive, send):
    await receive()
    raise KeyError("token")


async def status(scope, receive, send):
    headers = [(b"location", b"/login?next=/")] if scope["path"] == "/302" else []
    await respond(send, status=int(scope["path"].strip("/") or 500), headers=headers)


async def deny(scope, receive, send):
    await receive()
    await send({"type": "websocket.close"})


async def deny_with_response(scope, receive, send):
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401})
    await send({"type": "websocket.http.response.body", "body": b"members only"})


async def stream(scope, receive, send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def half(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    await forever()


raising = application(fail)
unanswered = application(nothing, receive_and_return)
statuses = application(status)
failing_websocket = application(answer, fail_later)
denying = application(answer, deny)
denying_by_response = application(answer, deny_with_response)
hanging = application(forever)
hanging_handshake = application(answer, forever)
streaming = application(stream)
half_answered = application(half)


async def wait_in_a_task(scope, receive, send):
    await asyncio.gather(forever())


async def wait_in_a_generator(scope, receive, send):
    async def parts():
        yield b""
        await forever()

    async for _ in parts():
        pass


hanging_in_a_task = application(wait_in_a_task)
hanging_in_a_generator = application(wait_in_a_generator)


# ---- startup and shutdown ----


async def break_down():
    raise RuntimeError("no database")


failing_startup = application(answer, started=break_down)
failing_shutdown = application(answer, stopped=break_down)
hanging_startup = application(answer, started=forever)
hanging_shutdown = application(answer, stopped=forever)


# ---- what blocks ----


async def sleep(*_):
    time.sleep(0.3)


async def sleep_and_answer(scope, receive, send):
    await sleep()
    await answer(scope, receive, send)


async def never_come_back(*_):
    while True:
        pass


without_await_at_startup = application(answer, started=call_nothing)
without_await_kept_to_the_end = application(answer, started=keep_a_coroutine)
blocking = application(sleep_and_answer)
blocking_startup = application(answer, started=sleep)
stuck = application(never_come_back)
stuck_startup = application(answer, started=never_come_back)


async def wait_for_a_thread(scope, receive, send):
    await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)


hanging_thread = application(wait_for_a_thread)


async def import_late(scope, receive, send):
    import slow_to_load

    assert slow_to_load

    await answer(scope, receive, send)


importing = application(import_late)


# ---- what ends the process or the loop ----


async def leave(*_):
    os._exit(0)


def exit_by_sys():
    sys.exit(0)


async def exit_in_a_task(scope, receive, send):
    asyncio.get_running_loop().call_soon(exit_by_sys)
    await answer(scope, receive, send)


async def stop_the_loop(scope, receive, send):
    asyncio.get_running_loop().stop()
    await answer(scope, receive, send)


def fork():
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


async def fork_and_answer(scope, receive, send):
    fork()
    await answer(scope, receive, send)


exiting = application(leave)
exiting_at_startup = application(answer, started=leave)
exiting_in_a_task = application(exit_in_a_task)
stopping_the_loop = application(stop_the_loop)


async def exit_when_cancelled():
    try:
        await forever()
    finally:
        exit_by_sys()


async def start_what_exits_when_cancelled():
    kept.append(asyncio.create_task(exit_when_cancelled()))


async def hold_on(*_):
    try:
        await forever()
    finally:
        await never_come_back()


async def send_after_close(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})
    await send({"type": "websocket.send", "text": "too late"})


async def misspell_a_key(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "boddy": b"hello"})


async def returning_the_answer(scope, receive, send):
    assert scope["type"] == "http"
    return "hello"


def not_async(scope, receive, send):
    return kept.clear()


exiting_when_cancelled = application(answer, started=start_what_exits_when_cancelled)
holding_on = application(hold_on)
sending_after_close = application(answer, send_after_close)
misspelling = application(misspell_a_key)
forking = application(fork_and_answer)


# ---- what is left behind ----


async def keep_running(*_):
    kept.append(asyncio.create_task(forever(), name="keeper"))


async def stop_running():
    kept[-1].cancel()


async def keep_a_generator(*_):
    async def parts():
        try:
            yield b""
        finally:
            await break_down()

    generator = parts()
    kept.append(generator)
    await anext(generator)


async def start_a_thread(*_):
    threading.Thread(target=threading.Event().wait, name="waiter").start()


async def answer_and_keep_running(scope, receive, send):
    kept.append(asyncio.create_task(forever()))
    await answer(scope, receive, send)


async def let_a_task_fail(scope, receive, send):
    await asyncio.wait([asyncio.create_task(break_down())])
    await answer(scope, receive, send)


failing_clean_up = application(answer, started=keep_a_generator)
left_thread = application(answer, started=start_a_thread)
left_task = application(answer, started=keep_running)
ended_task = application(answer, started=keep_running, stopped=stop_running)
task_of_a_request = application(answer_and_keep_running)
failed_task = application(let_a_task_fail)


# ---- frameworks ----


def starlette():
    from starlette.applications import Starlette
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    async def index(request):
        return PlainTextResponse("hello")

    async def accepting(websocket):
        await websocket.accept()
        await websocket.receive_text()

    async def passing(request, call_next):
        return await call_next(request)

    app = Starlette(routes=[Route("/", index), WebSocketRoute("/", accepting)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    return app


def starlette_failing_startup():
    from starlette.applications import Starlette

    @contextlib.asynccontextmanager
    async def lifespan(app):
        await break_down()
        yield

    return Starlette(lifespan=lifespan)


def starlette_failing_shutdown():
    from starlette.applications import Starlette

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        await break_down()

    return Starlette(lifespan=lifespan)


def fastapi():
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    def index():
        return {"in": "a thread"}

    return app
