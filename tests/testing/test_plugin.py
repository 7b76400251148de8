"""The plugin of pytest, in runs of pytest of its own."""

import subprocess
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]

APPS = """
async def hello(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/boom":
        raise ValueError("as asked")
    name = b"X-Upper" if scope["path"] == "/upper" else b"x-lower"
    if scope["path"] == "/unawaited":
        send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.start", "status": 200, "headers": [(name, b"1")]})
    await send({"type": "http.response.body", "body": b"ok"})

async def other(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"other"})
"""
GET = """
import urllib.error, urllib.request

def get(server, path="/"):
    try:
        return urllib.request.urlopen(server.url + path, timeout=5).read().decode()
    except urllib.error.HTTPError as error:
        return error.code
"""


@pytest.fixture
def run(pytester):
    """`run(text of a test module, options)`: the result of a run of pytest, in a process of its own."""

    def run(text, *options, scope="asyncio_default_fixture_loop_scope = function"):
        pytester.makepyfile(apps=APPS, test_it=GET + textwrap.dedent(text))
        pytester.makeini(f"[pytest]\nfilterwarnings = error\n{scope}\n")
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers", *options)

    return run


def test_a_server_for_a_test(run):
    text = """
    from apps import hello

    def test_one(asgi_server):
        server = asgi_server(hello)
        assert get(server) == "ok"
        assert asgi_server("apps:other").port != server.port
        assert [each.status for each in server.exchanges] == [200]
    """
    run(text).assert_outcomes(passed=1)


def test_the_application_is_a_fixture_or_a_mark(run):
    text = """
    import pytest
    from apps import hello, other

    @pytest.fixture
    def asgi_app():
        return hello

    def test_of_the_fixture(asgi_server):
        assert get(asgi_server()) == "ok"

    class TestOthers:
        @pytest.fixture
        def asgi_app(self):
            return other

        def test_of_the_class(self, asgi_server):
            assert get(asgi_server(lifespan="off")) == "other"
    """
    run(text).assert_outcomes(passed=2)
    text = """
    import pytest

    pytestmark = pytest.mark.asgi_app("apps:hello")

    def test_of_the_module(asgi_server):
        assert get(asgi_server()) == "ok"

    @pytest.mark.asgi_app("apps:other")
    def test_of_its_own(asgi_server):
        assert get(asgi_server()) == "other"
    """
    run(text).assert_outcomes(passed=2)


def test_a_mark_that_names_no_application_is_refused(run):
    result = run("""
    import pytest

    @pytest.mark.asgi_app()
    def test_one(asgi_server):
        asgi_server()
    """)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError: the mark asgi_app takes one thing: an application, or*"])


def test_without_an_application_it_says_what_to_do(run):
    result = run("def test_one(asgi_server):\n    asgi_server()\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*asgi_server() has no application: give it one, override the fixture*"])


def test_an_error_of_the_application_fails_the_test_and_not_its_teardown(run):
    text = """
    from apps import hello

    def test_one(asgi_server):
        assert get(asgi_server(hello), "/boom") == 500

    def test_expected(asgi_server):
        server = asgi_server(hello)
        with server.expect(ValueError):
            get(server, "/boom")

    def test_both(asgi_server):
        assert get(asgi_server(hello), "/boom") == "ok"
    """
    result = run(text)
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_one _*",
            "*ExceptionGroup: errors in the application (1 sub-exception)",
            "*apps.py*",
            "*ValueError: as asked",
            "*GET /boom from 127.0.0.1:*: the application raised",
            "*- miniasgi: what was said in this test -*",
            "GET /boom from 127.0.0.1:* (*ms)",
            "  not a message was received or sent",
            "  raised ValueError: as asked",
            "*_ test_both _*",
            "*ValueError: as asked",
            "*During handling of the above exception, another exception occurred:*",
            "*AssertionError: assert 500 == 'ok'",
        ]
    )


def test_the_report_shows_the_conversation_of_this_test_and_masks_secrets(run):
    text = """
    from apps import hello
    from miniasgi.testing import serve

    def test_before(asgi_server):
        get(asgi_server(hello), "/before")

    async def secretive(scope, receive, send):
        assert scope["type"] == "http"
        headers = [(b"x-lower", b"1"), (b"set-cookie", b"id=of-a-session")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    def test_one():
        with serve(hello) as server:
            for number in range(11):
                get(server, f"/{number}")
        with serve(secretive) as server:
            get(server, "/secret")
        assert False
    """
    result = run(text)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- miniasgi: what was said in this test -*",
            "(2 exchanges before these)",
            "",
            "GET /2 from 127.0.0.1:*: 200 (*ms)",
            "*ms  send     {'type': 'http.response.start', 'status': 200, 'headers': [[](b'x-lower', b'1')[]]}",
            "GET /secret from 127.0.0.1:*: 200 (*ms)",
            "*'headers': [[](b'x-lower', b'1'), (b'set-cookie', (masked))[]]}",
        ]
    )
    said = str(result.stdout).partition("what was said in this test")[2]
    assert "of-a-session" not in said
    result.stdout.no_fnmatch_line("*/before*")


def test_a_server_for_the_session(run):
    text = """
    import pytest
    from apps import hello

    seen = set()

    @pytest.mark.parametrize("number", range(3))
    def test_one(asgi_server_session, number):
        server = asgi_server_session(hello)
        seen.add(server.port)
        assert len(seen) == 1
        assert server.exchanges == []
        get(server, f"/{number}")
        assert [each.scope["path"] for each in server.exchanges] == [f"/{number}"]

    def test_boom(asgi_server_session):
        assert get(asgi_server_session(hello), "/boom") == 500

    def test_after(asgi_server_session):
        assert get(asgi_server_session(hello)) == "ok"

    def test_of_other_options(asgi_server_session):
        assert asgi_server_session(hello, root_path="/api").port not in seen
    """
    result = run(text)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["GET /boom from *", "FAILED test_it.py::test_boom - ValueError*"])


STRICT = """
from apps import hello
from miniasgi.testing import serve

def test_upper(asgi_server):
    get(asgi_server(hello), "/upper")

def test_unawaited(asgi_server):
    get(asgi_server(hello), "/unawaited")

def test_with_serve():
    with serve(hello) as server:
        get(server, "/upper")

def test_right(asgi_server):
    get(asgi_server(hello))
"""


def test_strict(run):
    result = run(STRICT, "--asgi-strict")
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*ApplicationFault: *X-Upper*",
            "*_ test_unawaited _*",
            "*ApplicationFault: *apps.py, line *: send() was called without `await`, so that nothing was sent*",
        ]
    )


def test_not_strict(run):
    run(STRICT, "-k", "not unawaited").assert_outcomes(passed=3, deselected=1)


def test_under_xdist(run):
    text = """
    import pytest
    from apps import hello

    @pytest.mark.parametrize("number", range(10))
    def test_one(asgi_server, asgi_server_session, number):
        assert get(asgi_server(hello)) == get(asgi_server_session(hello)) == "ok"

    def test_boom(asgi_server):
        get(asgi_server(hello), "/boom")
    """
    result = run(text, "-n", "2")
    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(["*miniasgi: what was said in this test*", "GET /boom*"])


def test_with_pytest_asyncio(run):
    text = """
    import httpx
    import pytest
    from apps import hello
    from miniasgi.testing import connect, serve

    @pytest.fixture
    async def server():
        async with serve(hello) as server:
            yield server

    @pytest.mark.asyncio
    async def test_thread(asgi_server):
        async with httpx.AsyncClient() as client:
            assert (await client.get(asgi_server(hello).url)).text == "ok"

    @pytest.mark.asyncio
    async def test_loop(server):
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).text == "ok"

    @pytest.mark.asyncio
    async def test_memory():
        async with connect(hello) as wire:
            await wire.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            assert (await wire.response()).body == b"ok"

    @pytest.mark.asyncio
    async def test_boom(asgi_server):
        async with httpx.AsyncClient() as client:
            await client.get(asgi_server(hello).url + "/boom")
    """
    result = run(textwrap.dedent(text), "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=3, failed=1)


def test_with_anyio(run):
    text = """
    import httpx
    import pytest
    from apps import hello
    from miniasgi.testing import serve

    pytestmark = pytest.mark.anyio

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return request.param

    @pytest.fixture
    async def server():
        async with serve(hello) as server:
            yield server

    async def test_thread(asgi_server):
        async with httpx.AsyncClient() as client:
            assert (await client.get(asgi_server(hello).url)).text == "ok"

    @pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
    async def test_loop(server):
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).text == "ok"
    """
    result = run(text, "-p", "no:asyncio", scope="")
    result.assert_outcomes(passed=3)


def test_with_unittest(run):
    text = """
    import unittest
    import urllib.request
    import pytest
    from apps import hello
    from miniasgi.testing import serve

    class Plain(unittest.TestCase):
        def setUp(self):
            self.server = self.enterContext(serve(hello))

        def test_one(self):
            self.assertEqual(get(self.server), "ok")

        def test_boom(self):
            get(self.server, "/boom")

    class InLoop(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.server = await self.enterAsyncContext(serve(hello))

        async def test_one(self):
            client = self.server.raw()
            await client.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            self.assertEqual((await client.response()).body, b"ok")

    class WithFixture(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def serve(self, asgi_server):
            self.server = asgi_server(hello)

        def test_one(self):
            self.assertEqual(get(self.server), "ok")

        def test_boom(self):
            get(self.server, "/boom")
    """
    result = run(text)
    result.assert_outcomes(passed=3, failed=2)


def test_a_module_of_unittest_without_pytest(pytester):
    pytester.makepyfile(apps=APPS)
    path = pytester.makepyfile(
        test_plain=GET
        + textwrap.dedent("""
        import unittest
        from apps import hello
        from miniasgi.testing import serve

        class Plain(unittest.TestCase):
            def test_one(self):
                with serve(hello) as server:
                    self.assertEqual(get(server), "ok")

            def test_boom(self):
                with self.assertRaises(ExceptionGroup), serve(hello) as server:
                    get(server, "/boom")
        """)
    )
    command = [sys.executable, "-W", "error", "-m", "unittest", path.stem]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == ".."  # and not a line of the log


def test_where_it_is_not_used_it_imports_next_to_nothing(run):
    text = """
    import sys

    def test_one():
        ours = sorted(name for name in sys.modules if name.partition(".")[0] == "miniasgi")
        assert ours == ["miniasgi", "miniasgi.testing", "miniasgi.testing.plugin", "miniasgi.version"]
        assert not {"h11", "wsproto"} & set(sys.modules)
    """
    run(text).assert_outcomes(passed=1)


def test_a_server_for_all_tests_that_its_application_has_ended_fails_one_test_and_is_started_anew(run):
    text = """
    import asyncio
    from apps import hello

    async def ends(scope, receive, send):
        await hello(scope, receive, send)
        if scope["path"] == "/end":
            asyncio.get_running_loop().stop()

    def test_end(asgi_server_session):
        server = asgi_server_session(ends)
        get(server, "/end")
        assert server.ended.wait(5)

    def test_after():
        pass

    def test_anew(asgi_server_session):
        assert get(asgi_server_session(ends)) == "ok"
    """
    result = run(text)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_end *"])


def test_a_server_for_all_tests_whose_loop_does_not_turn_says_where_it_is(run):
    text = """
    import time
    from apps import hello

    async def blocks(scope, receive, send):
        await hello(scope, receive, send)
        time.sleep(4)

    def test_blocks(asgi_server_session):
        assert get(asgi_server_session(blocks)) == "ok"
    """
    result = run(text)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*keeps the loop from turning; it is in *in blocks: time.sleep(4)*"])


def test_a_server_for_all_tests_says_what_is_wrong_with_an_option_of_whatever_type(run):
    text = """
    import pytest
    from apps import hello
    from miniasgi.config import ConfigError

    def test_one(asgi_server_session):
        with pytest.raises(ConfigError, match="port"):
            asgi_server_session(hello, port=["8000"])
    """
    run(text).assert_outcomes(passed=1)


def test_a_start_that_fails_is_shown_where_the_test_asked_for_it(run):
    text = """
    from apps import hello
    from miniasgi.testing import serve

    async def broken(scope, receive, send):
        await receive()
        connect_to_database()

    def connect_to_database():
        raise OSError("no database")

    def test_fixture(asgi_server):
        asgi_server(broken)

    def test_block():
        with serve(broken):
            pass

    async def test_loop():
        async with serve(broken):
            pass
    """
    result = run(text, "--asyncio-mode=auto")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["E*OSError: no database", "E*StartupFailed: *no database*"])
    result.stdout.no_fnmatch_line("*testing/serving.py*")
    result.stdout.no_fnmatch_line("*testing/thread.py*")
    result.stdout.no_fnmatch_line("*miniasgi/server.py*")


def test_the_report_has_what_was_said_with_a_server_that_was_started_long_ago(run):
    text = """
    from apps import hello
    from miniasgi.testing import serve

    def test_many(asgi_server_session):
        asgi_server_session(hello)
        for _ in range(10):
            with serve(hello):
                pass

    def test_fails(asgi_server_session):
        get(asgi_server_session(hello), "/of-old")
        assert False
    """
    result = run(text)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["GET /of-old from *"])
