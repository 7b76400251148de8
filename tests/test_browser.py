"""The pages of the examples in a real browser: headless Chromium, at desktop and phone width."""

import os

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.test_examples import DJANGO, database  # noqa: F401  # a fixture

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
# Root, as in a container, cannot use Chromium's sandbox; and nothing but this machine is asked.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def browser(need):
    path = need("chromium", "chromium-browser", "google-chrome", install="chromium (Debian)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def opened(browser, url, size):
    """A page without errors on its console; a screenshot goes to MINIASGI_SCREENSHOTS, if that is set."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    expect(page.locator("#state")).to_have_text("Connected")
    return page


def say(page, text):
    page.fill("#text", text)
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_value("")


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def keep_screenshot(page, name):
    if folder := os.environ.get("MINIASGI_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")


def test_two_windows_chat(process, browser):
    server = process("examples/chat.py:app")
    desktop, phone = (opened(browser, server.url, size) for size in SIZES)
    say(desktop, "Hello from the desktop")
    say(phone, "And from the phone, with a very long word: " + "x" * 100)
    for size, page in (("desktop", desktop), ("phone", phone)):
        expect(page.locator("#messages li")).to_have_count(2)
        expect(page.locator("#messages li").first).to_have_text("Hello from the desktop")
        assert fits(page)
        assert page.errors == []
        keep_screenshot(page, f"chat-{size}")
    # The server stops: the page says so, by a WebSocket that was closed in order.
    assert server.stop() == 0
    expect(desktop.locator("#state")).to_contain_text("Connection lost")


def test_two_windows_in_a_channels_room(process, browser, database):  # noqa: F811
    server = process("project.asgi:application", cwd=DJANGO, env=database)
    desktop, phone = (opened(browser, server.url, size) for size in SIZES)
    assert desktop.title() == "lobby"
    say(desktop, "Hello from the desktop")
    for size, page in (("desktop", desktop), ("phone", phone)):
        expect(page.locator("#messages li")).to_have_text(["anonymous: Hello from the desktop"])
        assert fits(page)
        assert page.errors == []
        keep_screenshot(page, f"channels-{size}")
    assert server.stop() == 0


@pytest.mark.parametrize("size", SIZES)
def test_the_page_of_a_failure(process, browser, size):
    server = process("tests.applications:failing", "--debug")
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    response = page.goto(f"{server.url}/path?a=<b>")
    assert response.status == 500
    expect(page.locator("h1")).to_have_text("ValueError: <script>alert('no')</script>")
    expect(page.locator("pre")).to_contain_text('tests/applications.py", line ')
    rows = page.locator("table").first.locator("tr")
    expect(rows.nth(1)).to_contain_text("{'type': 'http.request', 'body': b'', 'more_body': False}")
    expect(rows.nth(2)).to_contain_text("{'type': 'http.response.start', 'status': 200, 'headers': []}")
    expect(rows.nth(3)).to_contain_text("http.response.start was sent a second time")
    keep_screenshot(page, f"failure-{size}")
    assert fits(page)
