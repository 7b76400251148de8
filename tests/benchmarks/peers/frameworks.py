"""Hello by a framework: `app` is that of the framework which the environment names; no other is imported."""

import os

from .applications import BODY, FRAMEWORK


def starlette():
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(request):
        return PlainTextResponse(BODY)

    return Starlette(routes=[Route("/", hello)])


def fastapi():
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()

    @app.get("/", response_class=PlainTextResponse)
    async def hello() -> str:
        return BODY.decode()

    return app


def django():
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    async def hello(request):
        return HttpResponse(BODY, content_type="text/plain")

    settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50, ROOT_URLCONF=(path("", hello),))
    return get_asgi_application()


app = {"starlette": starlette, "fastapi": fastapi, "django": django}[os.environ[FRAMEWORK]]()
