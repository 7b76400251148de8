"""A stream that only sends ends soon after its client has left, whatever framework it is of."""

import http.client
import time

import pytest

STREAMS = {
    "starlette": [],
    "starlette_with_middleware": [],
    "fastapi": [],
    "django_application": ["--factory"],
    "channels_application": ["--factory"],
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_ends_within_a_second_of_its_clients_leaving(process, name, loop):
    server = process(f"tests.streams:{name}", "--loop", loop, "--lifespan", "off", *STREAMS[name])
    client = http.client.HTTPConnection("127.0.0.1", server.port)
    client.request("GET", "/")
    response = client.getresponse()
    assert response.read(8) == b"0\n1\n2\n3\n"
    response.close()
    client.close()
    left = time.monotonic()
    server.wait_for("stream ended")
    assert time.monotonic() - left < 1
    assert server.stop() == 0
    assert "Traceback" not in server.output
    assert " ERROR " not in server.output
