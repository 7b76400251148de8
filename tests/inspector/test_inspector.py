"""The inspector: who may see it, what is kept, and that it goes on while the application blocks."""

import re
import threading

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from miniasgi.inspector import as_html, inspector, pass_on
from miniasgi.inspector.application import Inspector
from miniasgi.inspector.kept import Kept
from miniasgi.inspector.serving import VARIABLE, at
from miniasgi.listen import AddressError
from miniasgi.observe.record import Record, header
from miniasgi.testing import serve

HEAD = header("2026-11-26T12:00:00+00:00", "package:app")
TOKEN = "a-token"


def record(number, name="returned", content=None):
    return Record(number, 1, number, "app", "out", name, content)


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def page(kept):
    with serve(Inspector(kept, HEAD, TOKEN), lifespan="off") as server:
        yield server


def test_the_page_is_shown_to_who_has_the_token(page):
    answer = httpx.get(f"{page.url}/", params={"token": TOKEN})
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "<title>" in answer.text
    assert httpx.get(f"{page.url}/nothing", params={"token": TOKEN}).status_code == 404


@pytest.mark.parametrize("path", ["/", "/export.html", "/records"])
@pytest.mark.parametrize("query", ["", "?token=", "?token=other", "?token=%C3%A9", "?tokens=a-token"])
def test_nothing_is_shown_without_the_token(page, path, query):
    answer = httpx.get(f"{page.url}{path}{query}")
    assert answer.status_code == 403
    assert "token" in answer.text


def test_nothing_is_shown_under_another_name(page):
    for host, status in {
        f"127.0.0.1:{page.port}": 200,
        f"localhost:{page.port}": 200,
        "evil.example": 403,
    }.items():
        assert httpx.get(f"{page.url}/?token={TOKEN}", headers={"host": host}).status_code == status


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1"])
def test_records_are_told_to_no_other_page(page, origin):
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{page.ws_url}/records?token={TOKEN}", origin=origin)
    assert refused.value.response.status_code == 403


def test_records_are_told_to_no_page_without_the_token(page):
    with pytest.raises(InvalidStatus):
        connect(f"{page.ws_url}/records", origin=page.url)


def test_what_is_kept_is_told_and_then_what_comes(page, kept):
    for number in range(1, 1200):
        kept.hear(record(number))
    with connect(f"{page.ws_url}/records?token={TOKEN}", origin=page.url) as websocket:
        lines = []
        while len(lines) < 1200:
            lines += websocket.recv(timeout=5).split("\n")
        assert lines[0] == HEAD
        assert lines[1:] == [record(number).text for number in range(1, 1200)]


def test_what_is_kept_has_a_limit():
    kept = Kept(limit=1000)
    for number in range(1, 100):
        kept.hear(record(number))
    assert kept.size <= 1000
    total, lines = kept.after(0, 500)
    assert total == 99
    assert lines[-1] == record(99).text
    assert kept.dropped == 99 - len(lines) > 0
    assert kept.after(total, 500) == (99, [])


def test_an_export_has_one_exchange_or_all(page, kept):
    kept.hear(record(1, content={"error": "</script><b>"}))
    kept.hear(record(2))
    answer = httpx.get(f"{page.url}/export.html", params={"token": TOKEN})
    assert answer.headers["content-disposition"] == 'attachment; filename="trace.html"'
    assert '"exchange":1' in answer.text
    assert '"exchange":2' in answer.text
    assert answer.text.count("</script>") == 2  # the records' and the page's own
    one = httpx.get(f"{page.url}/export.html", params={"token": TOKEN, "exchange": "2"})
    assert one.headers["content-disposition"] == 'attachment; filename="exchange-2.html"'
    assert '"exchange":1' not in one.text
    assert '"exchange":2' in one.text


def test_the_page_has_no_records_of_its_own():
    assert 'id="records"' not in as_html()
    assert 'id="records"' in as_html([HEAD])


def shown_at(caplog):
    [found] = re.findall(r"http://127\.0\.0\.1:\d+/\?token=\S+", caplog.text)
    return found


def test_it_is_served_on_a_port_of_its_own_while_the_block_runs(caplog):
    caplog.set_level("INFO", "miniasgi")
    with inspector("auto", HEAD) as hear:
        url = shown_at(caplog)
        assert httpx.get(url).status_code == 200
        origin = url.partition("/?")[0]
        with connect(url.replace("http", "ws").replace("/?", "/records?"), origin=origin) as websocket:
            assert websocket.recv(timeout=5) == HEAD
            hear(record(1))  # from this thread, whose loop might be blocked
            assert websocket.recv(timeout=5) == record(1).text
    assert not [each for each in threading.enumerate() if each.name == "miniasgi inspector"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_port_that_cannot_be_had_is_an_error_that_names_the_option(page):
    text = rf"inspect='{page.port}' cannot be had: Address already in use"
    with pytest.raises(AddressError, match=text), inspector(str(page.port), HEAD):
        pass


def test_a_parent_passes_port_and_token_on():
    environment = {}
    pass_on("auto", environment)
    port, token = at(environment[VARIABLE], "auto")
    assert port > 0
    assert len(token) > 20
    assert at("", "8123")[0] == 8123


def test_a_process_says_where_it_is_and_shows_what_passes_while_it_blocks(process):
    server = process("tests.applications:blocking", "--inspect")
    url = re.search(r"http://\S+token=\S+", server.wait_for("What passes is shown on"))[0]
    origin = url.partition("/?")[0]
    with connect(url.replace("http", "ws").replace("/?", "/records?"), origin=origin) as websocket:
        with pytest.raises(httpx.TimeoutException):
            httpx.get(server.url + "/blocking", timeout=0.5)
        said = ""
        while '"name":"called"' not in said or "/blocking" not in said:
            said += websocket.recv(timeout=5)
        assert httpx.get(url).status_code == 200  # though the application's loop does not turn


def test_a_reload_keeps_the_page_where_it_is(process, tmp_path):
    (tmp_path / "app.py").write_text("from tests.applications import hello as app\n")
    server = process("app:app", "--reload", "--inspect", cwd=tmp_path)
    first = server.wait_for("What passes is shown on")
    (tmp_path / "app.py").write_text("from tests.applications import hello as app  # again\n")
    second = server.wait_for("What passes is shown on", nth=2)
    assert re.search(r"http://\S+", first)[0] == re.search(r"http://\S+", second)[0]
    assert httpx.get(re.search(r"http://\S+", second)[0]).status_code == 200
    assert server.stop() == 0
