"""Applications of Starlette and FastAPI, served over real sockets."""

import asyncio
import contextlib

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from miniasgi.testing import serve


def starlette(told):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        told.append("startup")
        yield {"name": "from startup"}
        told.append("shutdown")

    async def index(request):
        return PlainTextResponse(request.state.name)

    async def upload(request):
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
        return JSONResponse({"size": size, "query": dict(request.query_params)})

    async def stream(request):
        async def numbers():
            try:
                for number in range(10**9):
                    yield f"{number}\n"
                    await asyncio.sleep(0.01)
            finally:
                told.append("stream ended")

        return StreamingResponse(numbers())

    async def background(request):
        async def task():
            told.append("background")

        return PlainTextResponse("ok", background=BackgroundTask(task))

    async def fails(request):
        raise ValueError("of the view")

    async def echo(websocket):
        await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[0])
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.send_json({"got": await websocket.receive_json()})

    async def deny(websocket):
        await websocket.send_denial_response(Response("members only", status_code=401))

    async def timing(request, call_next):
        response = await call_next(request)
        response.headers["x-middleware"] = "yes"
        return response

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", index),
            Route("/upload", upload, methods=["POST"]),
            Route("/stream", stream),
            Route("/background", background),
            Route("/fails", fails),
            WebSocketRoute("/echo", echo),
            WebSocketRoute("/deny", deny),
            Mount("/static", StaticFiles(directory="tests")),
        ],
    )
    app.add_middleware(BaseHTTPMiddleware, dispatch=timing)
    return app


async def test_starlette(caplog, monkeypatch):
    from tests.conftest import ROOT

    monkeypatch.chdir(ROOT)
    told = []
    async with serve(starlette(told)) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert told == ["startup"]
        response = await client.get("/")
        assert (response.text, response.headers["x-middleware"]) == ("from startup", "yes")
        assert (await client.post("/upload?a=b", content=bytes(500_000))).json() == {
            "size": 500_000,
            "query": {"a": "b"},
        }
        async with client.stream("GET", "/stream") as streamed:
            async for line in streamed.aiter_lines():
                if line == "3":
                    break
        await server.wait_for(lambda: "stream ended" in told)
        assert (await client.get("/background")).text == "ok"
        await server.wait_for(lambda: "background" in told)
        assert (await client.get("/static/applications.py")).text.startswith('"""Applications that')
        assert (await client.get("/static/no")).status_code == 404
        assert not caplog.records
        async with server.expect(ValueError, match="of the view"):
            response = await client.get("/fails")
            assert (response.status_code, response.text) == (500, "Internal Server Error")

        async with connect(server.ws_url + "/echo", subprotocols=["one", "two"]) as websocket:
            assert websocket.subprotocol == "one"
            await websocket.send('"hi"')
            assert await websocket.recv() == '{"got":"hi"}'
        with pytest.raises(InvalidStatus) as denied:
            await connect(server.ws_url + "/deny")
        assert denied.value.response.status_code == 401
        assert denied.value.response.body == b"members only"
    assert told[-1] == "shutdown"


class Item(BaseModel):
    name: str
    price: float


async def test_fastapi():
    app = FastAPI()

    @app.post("/items")
    async def create(item: Item):
        return {"total": item.price * 2}

    @app.get("/sync")
    def sync():
        return {"thread": "yes"}

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("hello " + await websocket.receive_text())
        await websocket.close(4000, "done")

    async with serve(app) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.post("/items", json={"name": "a", "price": 2})).json() == {"total": 4}
        assert (await client.post("/items", json={"name": "a"})).status_code == 422
        answers = await asyncio.gather(*(client.get("/sync") for _ in range(20)))
        assert all(answer.json() == {"thread": "yes"} for answer in answers)
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")
        async with connect(server.ws_url + "/ws") as websocket:
            await websocket.send("you")
            assert await websocket.recv() == "hello you"
            await websocket.wait_closed()
            assert (websocket.close_code, websocket.close_reason) == (4000, "done")


async def test_fastapi_denies_a_websocket_that_lacks_a_parameter(caplog):
    app = FastAPI()

    @app.websocket("/")
    async def needs_a_token(websocket: WebSocket, token: str): ...

    async with serve(app) as server:
        with pytest.raises(InvalidStatus) as denied:
            async with connect(server.ws_url):
                pass
    assert denied.value.response.status_code == 403
    assert not caplog.records
