"""The inspector's page in a real browser: headless Chromium, at desktop and phone width."""

import re

import httpx
import pytest
from playwright.sync_api import expect
from websockets.sync.client import connect

from miniasgi.inspector.application import Inspector
from miniasgi.inspector.kept import Kept
from miniasgi.observe.record import Record, header
from miniasgi.testing import serve
from tests.test_browser import SIZES, browser, fits  # noqa: F401  # a fixture

HEAD = header("2026-11-26T12:00:00+00:00", "package:app")


@pytest.fixture
def opened(browser):  # noqa: F811
    """`opened(url, size)`: a page; what it says on its console fails the test."""
    errors = []

    def open_page(url, size="desktop", **options):
        width, height = SIZES[size]
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    assert errors == []


@pytest.fixture
def served(process):
    """(server, URL of its page)"""
    server = process("tests.applications:echo", "--inspect")
    return server, re.search(r"http://\S+token=\S+", server.wait_for("What passes is shown on"))[0]


def row(page, number):
    return page.locator(f'[data-exchange="{number}"]')


@pytest.mark.parametrize("size", SIZES)
def test_a_request_appears_opens_and_is_exported_and_the_export_opens_by_itself(
    served, opened, size, tmp_path
):
    server, url = served
    page = opened(url, size, accept_downloads=True)
    expect(page.locator("#connection")).to_have_text("Live")
    httpx.post(server.url + "/there", content=b"hello", headers={"cookie": "a=secret"})
    expect(row(page, 1)).to_contain_text("POST")
    expect(row(page, 1)).to_contain_text("/there")
    expect(row(page, 1)).to_contain_text("200")
    row(page, 1).click()
    expect(page.locator("#diagram [data-record]").first).to_be_visible()
    for words in ("Request", "http.request", "http.response.start", "returned"):
        expect(page.locator("#diagram [data-record]", has_text=words).first).to_be_attached()
    assert fits(page)
    page.locator("#diagram [data-record]", has_text="Request").first.click()
    expect(page.locator("#details")).to_contain_text("content-length")
    expect(page.locator("#details")).not_to_contain_text("secret")
    expect(page.locator('#states [data-state="SEND_RESPONSE"].lit')).to_be_attached()
    assert fits(page)
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.locator("#export-one").click()
    download.value.save_as(tmp_path / "exported.html")
    server.stop()
    alone = opened((tmp_path / "exported.html").as_uri(), size)
    expect(alone.locator("#connection")).to_contain_text("Recorded")
    expect(alone.locator("#title")).to_contain_text("/there")
    expect(alone.locator("#diagram [data-record]", has_text="Request").first).to_be_attached()
    expect(alone.locator("#pause")).to_be_hidden()


class Shown:
    """A page whose records the test makes."""

    def __init__(self, server, kept):
        self.kept = kept
        self.url = f"{server.url}/?token=t"
        self.at = 0

    def hear(self, number, lane, way, name, content=None, states=None):
        self.at += 100
        self.kept.hear(Record(self.at, 1, number, lane, way, name, content, states or {}))

    def exchange(self, number, path="/", status=200):
        target = {"bytes": path}
        self.hear(number, "bytes", "in", "data_received", {"bytes": f"GET {path} HTTP/1.1\r\n\r\n"})
        self.hear(
            number, "events", "in", "Request", {"method": {"bytes": "GET"}, "target": target, "headers": []}
        )
        self.hear(number, "app", "in", "called", {"type": "http", "method": "GET", "path": path})
        self.hear(number, "events", "out", "Response", {"status_code": status, "headers": []})
        self.hear(number, "events", "out", "EndOfMessage", {}, {"client": "DONE", "server": "DONE"})
        self.hear(number, "app", "out", "returned")


@pytest.fixture
def shown():
    kept = Kept()
    with serve(Inspector(kept, HEAD, "t"), lifespan="off") as server:
        yield Shown(server, kept)


def test_thousands_of_exchanges_are_listed_and_few_of_them_are_in_the_document(shown, opened):
    for number in range(1, 5001):
        shown.exchange(number, f"/item/{number}")
    page = opened(shown.url)
    expect(page.locator("#count")).to_have_text("5,000", timeout=20000)
    assert page.locator(".item").count() < 60
    page.fill("#filter", "/item/499")
    expect(page.locator("#count")).to_have_text("11 of 5,000")
    expect(row(page, 4999)).to_be_visible()


def test_the_filter_knows_status_and_kind(shown, opened):
    shown.exchange(1, "/good")
    shown.exchange(2, "/bad", status=500)
    shown.hear(3, "events", "in", "Request", {"method": {"bytes": "GET"}, "target": {"bytes": "/slow"}})
    shown.hear(3, "app", "in", "called", {"type": "http"})
    page = opened(shown.url)
    for words, numbers in {
        "status:5": [2],
        "/good": [1],
        "running": [3],
        "error": [2],
        "nothing": [],
    }.items():
        page.fill("#filter", words)
        expect(page.locator("#count")).to_have_text(f"{len(numbers)} of 3")
        for number in numbers:
            expect(row(page, number)).to_be_visible()
    expect(page.locator("#empty")).to_be_visible()


def test_what_strangers_said_is_text(shown, opened):
    hostile = "/<img src=x onerror=document.title='hacked'>"
    shown.exchange(1, hostile)
    page = opened(shown.url)
    expect(row(page, 1)).to_contain_text(hostile)
    row(page, 1).click()
    for at in range(6):
        page.locator(f'[data-record="{at}"]').click()
    expect(page.locator("#diagram")).to_contain_text("<img")
    assert page.locator("img").count() == 0
    assert page.title() != "hacked"


def test_a_pause_holds_what_comes_until_it_ends(shown, opened):
    shown.exchange(1)
    page = opened(shown.url)
    expect(row(page, 1)).to_be_visible()
    page.keyboard.press("p")
    shown.exchange(2)
    expect(page.locator("#pause")).to_contain_text("6 more")
    expect(row(page, 2)).to_have_count(0)
    page.click("#pause")
    expect(row(page, 2)).to_be_visible()


def test_it_can_be_used_by_keys_alone(shown, opened):
    for number in (1, 2, 3):
        shown.exchange(number, f"/{number}")
    page = opened(shown.url)
    expect(row(page, 3)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("/2")
    expect(page.locator("#count")).to_have_text("1 of 3")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#title")).to_contain_text("/2")
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    expect(page.locator('[data-record="1"]')).to_have_attribute("aria-selected", "true")
    expect(page.locator("#details")).to_contain_text("Request")
    page.keyboard.press("Escape")
    expect(page.locator('#diagram [aria-selected="true"]')).to_have_count(0)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


def test_light_and_dark_are_as_the_system_has_it_and_can_be_changed(shown, opened):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark, light = (opened(shown.url, color_scheme=scheme) for scheme in ("dark", "light"))
    was = paper(dark)
    assert was != paper(light)
    light.click("#theme")
    assert paper(light) == was


def test_a_server_that_is_gone_is_told_and_what_was_seen_stays(shown, opened, served):
    server, url = served
    page = opened(url)
    httpx.get(server.url)
    expect(row(page, 1)).to_be_visible()
    server.stop()
    expect(page.locator("#connection")).to_have_class(re.compile("lost"))
    expect(row(page, 1)).to_be_visible()


def test_a_click_is_not_lost_while_more_comes(shown, opened):
    shown.exchange(1)
    page = opened(shown.url)
    row(page, 1).hover()
    page.mouse.down()
    for number in range(2, 30):  # as long as a finger is on it
        shown.exchange(number)
        page.evaluate("new Promise(requestAnimationFrame)")
    page.mouse.up()
    expect(row(page, 1)).to_have_attribute("aria-selected", "true")
    expect(row(page, 5)).to_be_visible()  # what came meanwhile


@pytest.mark.parametrize("width", [600, 1000])
def test_what_an_arrow_carries_stands_first_where_it_lies_over_the_diagram(served, opened, width):
    server, url = served
    httpx.get(server.url)
    page = opened(url)
    page.set_viewport_size({"width": width, "height": 800})
    row(page, 1).click()
    page.locator("#diagram [data-record]", has_text="Request").first.click()
    expect(page.locator("#details")).to_contain_text("Request")
    content, states = (page.locator(name).bounding_box() for name in ("#details", "#states"))
    assert content["y"] < states["y"]
    assert fits(page)


def test_a_websocket_is_shown_with_its_messages_and_its_states(served, opened):
    server, url = served
    page = opened(url)
    with connect(server.url.replace("http", "ws") + "/ws") as websocket:
        websocket.send("there")
        assert websocket.recv(10) == "there"
        expect(row(page, 1)).to_contain_text("open")
        row(page, 1).click()
        for words in ("websocket.accept", "TextMessage", "websocket.receive", "websocket.send"):
            expect(page.locator("#diagram [data-record]", has_text=words).first).to_be_attached()
        expect(page.locator("#lanes")).to_contain_text("wsproto")
        expect(page.locator("#states .lit")).to_contain_text(["OPEN"])
    expect(row(page, 1)).to_contain_text("1000")
    expect(page.locator("#states .lit")).to_contain_text(["CLOSED"])
