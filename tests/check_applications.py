"""Applications that `miniasgi check` is tried on, as `tests.check_applications:name`. Each has one fault, or none."""

import asyncio
import threading
import time

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


wrong_type = application(send_str)
swallowed = application(swallow)
without_await = application(send_without_await)
late_message = application(send_late)
upper_case_headers = application(upper_case)


async def unaware(scope, receive, send):
    await answer(scope, receive, send)


# ---- wrong answers ----


async def fail(scope, receive, send):
    raise KeyError("token")


async def fail_later(scope, receive, send):
    await receive()
    raise KeyError("token")


async def status(scope, receive, send):
    await respond(send, status=int(scope["path"].strip("/") or 500))


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
unanswered = application(nothing, nothing)
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


blocking = application(sleep_and_answer)
blocking_startup = application(answer, started=sleep)
stuck = application(never_come_back)
stuck_startup = application(answer, started=never_come_back)


async def wait_for_a_thread(scope, receive, send):
    await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)


hanging_thread = application(wait_for_a_thread)


# ---- what is left behind ----


async def keep_running(*_):
    kept.append(asyncio.create_task(forever(), name="keeper"))


async def stop_running():
    kept[-1].cancel()


async def answer_and_keep_running(scope, receive, send):
    kept.append(asyncio.create_task(forever()))
    await answer(scope, receive, send)


async def let_a_task_fail(scope, receive, send):
    await asyncio.wait([asyncio.create_task(break_down())])
    await answer(scope, receive, send)


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


def fastapi():
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    def index():
        return {"in": "a thread"}

    return app
