"""Hello by Starlette, FastAPI and Django: `starlette`, `fastapi` and `django`, imported when asked for only."""

from .applications import BODY


def make_starlette():
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(request):
        return PlainTextResponse(BODY)

    return Starlette(routes=[Route("/", hello)])


def make_fastapi():
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()

    @app.get("/", response_class=PlainTextResponse)
    async def hello() -> str:
        return BODY.decode()

    return app


def make_django():
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    async def hello(request):
        return HttpResponse(BODY, content_type="text/plain")

    settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50, ROOT_URLCONF=(path("", hello),))
    return get_asgi_application()


MAKERS = {"starlette": make_starlette, "fastapi": make_fastapi, "django": make_django}


def __getattr__(name):
    """The application of that name, made at its first use (PEP 562)."""
    if name not in MAKERS:
        raise AttributeError(name)
    return globals().setdefault(name, MAKERS[name]())
