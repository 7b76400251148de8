"""Streams of the frameworks that only send, and say on stdout when they end: served as `tests.streams:name`."""

import asyncio
import sys

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route


async def numbers():
    for number in range(10**9):
        yield f"{number}\n".encode()
        await asyncio.sleep(0.02)


def telling(app):
    """The application, which says when a call of it has ended.

    Not the generator does: where send() raises, Django leaves it to the garbage collection.
    """

    async def told(scope, receive, send):
        try:
            await app(scope, receive, send)
        finally:
            print("stream ended", flush=True)

    return told


async def stream(request):
    return StreamingResponse(numbers())


async def pass_on(request, call_next):
    return await call_next(request)


starlette = telling(Starlette(routes=[Route("/", stream)]))
starlette_with_middleware = telling(
    Starlette(routes=[Route("/", stream)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)])
)

api = FastAPI()
fastapi = telling(api)


@api.get("/")
async def stream_of_fastapi() -> StreamingResponse:
    return StreamingResponse(numbers())


def django_application():
    """A Django project in this module."""
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import StreamingHttpResponse
    from django.urls import path

    async def view(request):
        return StreamingHttpResponse(numbers())

    sys.modules["streams_urls"] = urls = type(sys)("streams_urls")
    urls.urlpatterns = [path("", view)]
    settings.configure(ROOT_URLCONF="streams_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
    django.setup()
    return telling(get_asgi_application())


def channels_application():
    """The same project behind Channels' router."""
    from channels.routing import ProtocolTypeRouter

    return ProtocolTypeRouter({"http": django_application()})
