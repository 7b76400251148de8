"""The bytes of the requests: what is verified before is what wrk sends then.

A request is its bytes and the body that must answer it. All that looks random is the same in each run.
"""

import json
from random import Random
from typing import NamedTuple

from .applications import BODY, EVENT

COUNTER = b"{counter}"  # the load puts a number there, another one in every request: 16 hexadecimal digits
HEX, TOKEN = "0123456789abcdef", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Request(NamedTuple):
    data: bytes
    answer: bytes = BODY


def request(target: str, headers: dict[str, str], method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def letters(random: Random, count: int, alphabet: str = TOKEN) -> str:
    return "".join(random.choices(alphabet, k=count))


# ---- headers ----

HOST = {"Host": "www.example.com"}
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)


def cookie(random: Random, size: int = 600) -> str:
    """As shops have them: two ids, a session, and a long signed token; `size` characters in all."""
    start = (
        f"_ga=GA1.1.{letters(random, 10, '0123456789')}; _fbp={letters(random, 24)}; "
        f"sessionid={letters(random, 32, HEX)}; token="
    )
    return start + letters(random, size - len(start))


def browser_headers(random: Random, agent: str = CHROME) -> dict[str, str]:
    """The 15 headers of a navigation in Chrome, with a cookie."""
    return {
        **HOST,
        "Connection": "keep-alive",
        "Cache-Control": "max-age=0",
        "sec-ch-ua": '"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"',
        "sec-ch-ua-mobile": "?0",
        "sec-ch-ua-platform": '"Linux"',
        "Upgrade-Insecure-Requests": "1",
        "User-Agent": agent,
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
        "Cookie": cookie(random),
    }


def api_headers(random: Random) -> dict[str, str]:
    """Those of a program that asks an API."""
    return {
        **HOST,
        "User-Agent": "python-httpx/0.28.1",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Authorization": f"Bearer {letters(random, 120)}",
    }


# ---- the requests of each workload ----

HELLO = Request(request("/", {**HOST, "User-Agent": "benchmark", "Accept": "*/*"}))


def browser() -> list[Request]:
    return [Request(request("/", browser_headers(Random(1))))]


def api(count: int = 1000) -> list[Request]:
    """Paths and queries differ, the headers do not."""
    random = Random(2)
    headers = api_headers(random)
    return [
        Request(request(f"/api/orders/{random.randrange(10**6)}?page={number % 50}&sort=date", headers))
        for number in range(count)
    ]


def unique() -> list[Request]:
    """As a proxy sends it that gives each request an id."""
    headers = {**HOST, "User-Agent": "benchmark", "Accept": "*/*", "X-Request-Id": COUNTER.decode()}
    return [Request(request("/", headers))]


def proxy(clients: int = 300, count: int = 3000) -> list[Request]:
    """Browsers' requests as a proxy forwards them: cookie, user agent and address are each client's own."""
    random = Random(3)
    heads = []
    for _ in range(clients):
        agent = (
            f"{CHROME} Edg/{random.randrange(90, 143)}.0.{random.randrange(10**4)}.{random.randrange(200)}"
        )
        address = ".".join(str(random.randrange(1, 255)) for _ in range(4))
        forwarded = {"X-Forwarded-For": address, "X-Forwarded-Proto": "https", "X-Real-IP": address}
        heads.append({**browser_headers(random, agent), **forwarded})
    return [Request(request(f"/p/{random.randrange(200)}", random.choice(heads))) for _ in range(count)]


def order() -> str:
    """1 KB of JSON."""
    told = {"id": 4711, "items": [{"sku": "A-100", "count": 3, "price": 19.99}] * 15, "note": ""}
    told["note"] = "x" * (1024 - len(json.dumps(told)))
    return json.dumps(told)


def post() -> list[Request]:
    body = order().encode()
    headers = {
        **api_headers(Random(4)),
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    return [Request(request("/orders", headers, "POST", body), body)]


def connect() -> list[Request]:
    return [Request(request("/", {**HOST, "User-Agent": "benchmark", "Connection": "close"}))]


def events(count: int) -> list[Request]:
    headers = {**HOST, "User-Agent": "benchmark", "Accept": "text/event-stream"}
    return [Request(request(f"/events?count={count}", headers), EVENT * count)]
