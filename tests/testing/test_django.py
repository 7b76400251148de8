"""Django answers 500 by itself: what its views raise is raised in the test all the same. In a process of its own."""

import textwrap

import pytest

pytest_plugins = ["pytester"]

PROJECT = """
import django
from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", LOGGING_CONFIG=None,
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.http import Http404, HttpResponse
from django.urls import path


def right(request):
    return HttpResponse("right")

def boom(request):
    raise LookupError("in a view")

async def async_boom(request):
    raise LookupError("in an async view")

def missing(request):
    raise Http404


class Consumer(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        raise LookupError("in a consumer")


urlpatterns = [path(each.__name__, each) for each in (right, boom, async_boom, missing)]
application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("ws", Consumer.as_asgi())])}
)
"""

TESTS = """
import httpx
import pytest
from project import application
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from miniasgi.testing import serve


@pytest.mark.parametrize("path", ["boom", "async_boom"])
def test_a_view(path):
    with serve(application) as server, serve(application) as other:
        with server.expect(LookupError, match="view") as expected:
            assert httpx.get(f"{server.url}/{path}").status_code == 500
        assert httpx.get(f"{other.url}/right").text == "right"
        assert len(expected.errors) == 1
        assert other.errors == []
    assert f"GET /{path} from 127.0.0.1:" in expected.error.__notes__[0]


async def test_a_view_in_the_loop_of_the_test():
    async with serve(application) as server, httpx.AsyncClient() as client:
        async with server.expect(LookupError):
            await client.get(f"{server.url}/boom")


def test_a_view_that_is_not_expected():
    with pytest.raises(ExceptionGroup) as raised, serve(application) as server:
        httpx.get(f"{server.url}/boom")
    assert type(raised.value.exceptions[0]) is LookupError


def test_what_is_no_error():
    with serve(application) as server:
        assert httpx.get(f"{server.url}/missing").status_code == 404
        assert httpx.get(f"{server.url}/right").text == "right"


async def test_a_consumer():
    async with serve(application) as server:
        async with server.expect(LookupError, match="consumer"):
            async with connect(f"{server.ws_url}/ws") as websocket:
                await websocket.send("hello")
                with pytest.raises(ConnectionClosed):
                    await websocket.recv()
"""


@pytest.fixture
def project(pytester):
    pytester.makepyfile(project=textwrap.dedent(PROJECT), test_it=TESTS)
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    return pytester


def test_the_errors_of_django_and_channels(project):
    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=6)
