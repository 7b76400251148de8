"""--debug: what a client is shown of a failure, and what nobody is shown without it."""

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from miniasgi.observe.conversation import KEPT
from tests.applications import failing

SECRETS = {"authorization": "Bearer abc", "cookie": "session=abc", "x-api-key": "abc", "x-harmless": "shown"}


async def ask(bare_server, app, accept="*/*", path="/", **options):
    async with bare_server(app, lifespan="off", **options) as server, httpx.AsyncClient() as client:
        return await client.get(server.url + path, headers={"accept": accept, **SECRETS})


async def test_without_debug_not_a_word_of_it(bare_server, caplog):
    response = await ask(bare_server, failing, "text/html")
    assert (response.status_code, response.text) == (500, "500 Internal Server Error\n")
    assert "ValueError: <script>" in caplog.text


async def test_curl_is_shown_text(bare_server):
    response = await ask(bare_server, failing, path="/a%20b?c=d", debug=True)
    assert response.status_code == 500
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    request, summary, *rest = response.text.splitlines()
    assert request == "GET /a%20b?c=d"
    assert summary == "ValueError: <script>alert('no')</script>"
    text = "\n".join(rest)
    assert 'tests/applications.py", line ' in text
    assert "miniasgi/protocol" not in text
    assert "ms  receive  {'type': 'http.request', 'body': b'', 'more_body': False}" in text
    assert "ms  send     {'type': 'http.response.start', 'status': 200, 'headers': []}" in text
    assert "→ http.response.start was sent a second time" in text
    assert (
        "  authorization: (masked)\n  cookie: (masked)\n  x-api-key: (masked)\n  x-harmless: shown\n" in text
    )
    assert "abc" not in text


async def test_a_browser_is_shown_a_page_without_anything_of_the_request_in_it_as_markup(bare_server):
    response = await ask(bare_server, failing, "text/html,*/*", path="/?<script>", debug=True)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in response.text
    assert "ValueError: &lt;script&gt;" in response.text
    assert "{" not in response.text.partition("<style>")[0]
    assert "abc" not in response.text


async def test_who_returns_without_an_answer_is_shown_what_was_said(bare_server):
    async def app(scope, receive, send):
        await receive()

    response = await ask(bare_server, app, debug=True)
    assert "the application returned before its answer was complete" in response.text
    assert "'http.request'" in response.text


async def test_an_application_that_cannot_be_awaited_is_told_so(bare_server):
    response = await ask(bare_server, lambda scope, receive, send: scope.get("nothing"), debug=True)
    summary = response.text.splitlines()[1]
    assert summary.startswith("ASGI calls `await app(scope, receive, send)`, which failed: ")
    assert "declared with `def` in place of `async def`" in summary
    assert "Traceback" not in response.text


async def test_a_conversation_that_never_was_is_told(bare_server):
    async def app(scope, receive, send):
        raise KeyError

    assert "not a message was received or sent" in (await ask(bare_server, app, debug=True)).text


async def test_of_a_long_conversation_the_ends_are_kept(bare_server):
    async def app(scope, receive, send):
        for number in range(100):
            try:
                await send({"type": "number", "number": number})
            except RuntimeError:
                pass
        raise KeyError

    text = (await ask(bare_server, app, debug=True)).text
    assert f"… {100 - 2 * KEPT} more …" in text
    kept = [number for number in range(100) if f"'number': {number}}}" in text]
    assert kept == [*range(KEPT), *range(100 - KEPT, 100)]


async def test_a_denied_handshake_is_shown_it_too(bare_server):
    async with bare_server(failing, lifespan="off", debug=True) as server:
        with pytest.raises(InvalidStatus) as denied:
            await connect(server.url.replace("http", "ws"))
    assert denied.value.response.status_code == 500
    assert b"ValueError: <script>" in denied.value.response.body


async def test_a_failure_in_the_middle_of_an_answer_breaks_it_off(bare_server):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ValueError("later")

    with pytest.raises(httpx.RemoteProtocolError):
        await ask(bare_server, app, debug=True)


async def test_an_error_that_cannot_be_shown_is_still_answered(bare_server):
    class Odd(Exception):
        def __str__(self):
            raise ValueError

    async def app(scope, receive, send):
        raise Odd

    response = await ask(bare_server, app, debug=True)
    assert response.status_code == 500
    assert "Odd: <exception str() failed>" in response.text


async def test_a_good_answer_is_the_same_with_debug(bare_server):
    from tests.applications import describe

    answers = [await ask(bare_server, describe, debug=debug) for debug in (False, True)]
    with_debug, without = (
        {key: value for key, value in answer.json().items() if key not in ("client", "server", "headers")}
        for answer in answers
    )
    assert with_debug == without


def test_the_terminal_says_who_is_shown_failures(process):
    server = process("tests.applications:failing", "--debug")
    assert "WARNING" in server.wait_for(
        "With --debug, every client is shown what fails inside the application"
    )
