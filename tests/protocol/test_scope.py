"""Request line and headers → scope."""

import h11
import pytest

from miniasgi.protocol.scope import BadRequest, Endpoint, http_scope, websocket_scope
from miniasgi.protocol.tls_scope import TLSFacts

TLS = TLSFacts("PEM", ("PEM",), "CN=a", 0x0304, 0x1301)
HERE = Endpoint(("10.0.0.1", 5000), ("10.0.0.2", 80))


def request(target, method="GET", headers=(("Host", "x"),), version="1.1"):
    return h11.Request(method=method, target=target, headers=list(headers), http_version=version)


def scope_of(target, root_path="", **arguments):
    return http_scope(request(target, **arguments), HERE, root_path, {})


def test_an_http_scope_has_every_key_of_the_specification_in_its_type():
    state = {"a": []}
    scope = http_scope(request("/a?b=c", headers=[("Host", "x"), ("X-Y", "Z")]), HERE, "", state)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"b=c",
        "root_path": "",
        "headers": [(b"host", b"x"), (b"x-y", b"Z")],
        "client": ("10.0.0.1", 5000),
        "server": ("10.0.0.2", 80),
        "state": {"a": []},
        "extensions": {
            "http.response.pathsend": {},
            "http.response.zerocopysend": {},
            "http.response.early_hint": {},
        },
    }
    assert scope["state"] is not state
    assert scope["state"]["a"] is state["a"]


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query_string"),
    [
        ("/", "/", b"/", b""),
        ("/a%20b/%C3%A9?x=%20&y", "/a b/é", b"/a%20b/%C3%A9", b"x=%20&y"),
        ("/a%2Fb", "/a/b", b"/a%2Fb", b""),
        ("/100%", "/100%", b"/100%", b""),
        ("/%ff", "/\ufffd", b"/%ff", b""),
        ("//double//", "//double//", b"//double//", b""),
        ("/a?b?c", "/a", b"/a", b"b?c"),
        ("/?", "/", b"/", b""),
        ("http://y/a%20b?c", "/a b", b"/a%20b", b"c"),
        ("HTTPS://y", "/", b"/", b""),
        ("http://y?q", "/", b"/", b"q"),
    ],
)
def test_targets(target, path, raw_path, query_string):
    scope = scope_of(target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query_string)


def test_the_host_of_an_absolute_target_takes_the_place_of_the_header():
    scope = scope_of("http://real:81/", headers=[("Host", "said"), ("A", "b")])
    assert scope["headers"] == [(b"host", b"real:81"), (b"a", b"b")]


def test_the_host_of_an_absolute_target_is_there_without_a_header():
    scope = scope_of("http://real/", headers=[("A", "b")], version="1.0")
    assert scope["headers"] == [(b"host", b"real"), (b"a", b"b")]
    with pytest.raises(BadRequest, match="without a host"):
        scope_of("http:///x")


def test_the_asterisk_is_for_options():
    scope = scope_of("*", method="OPTIONS")
    assert (scope["path"], scope["raw_path"]) == ("*", b"*")
    assert scope_of("*", method="OPTIONS", root_path="/api")["path"] == "*"
    with pytest.raises(BadRequest, match="OPTIONS"):
        scope_of("*")


@pytest.mark.parametrize("target", ["a", "ftp://x/", "http:/x", "*a"])
def test_what_is_no_target_says_so(target):
    with pytest.raises(BadRequest, match="slash"):
        scope_of(target)


def test_connect_is_not_implemented():
    with pytest.raises(BadRequest) as caught:
        scope_of("x:443", method="CONNECT")
    assert caught.value.status == 501


def test_the_root_path_is_put_before_the_path_that_the_proxy_left():
    scope = scope_of("/users?a", root_path="/the api")
    assert scope["root_path"] == "/the api"
    assert scope["path"] == "/the api/users"
    assert scope["raw_path"] == b"/the%20api/users"
    assert scope["query_string"] == b"a"


def test_tls_and_http_1_0_show_in_the_scope():
    secure = Endpoint(None, ("/run/x.sock", None), TLS)
    scope = http_scope(request("/", version="1.0"), secure, "", {})
    assert (scope["scheme"], scope["http_version"]) == ("https", "1.0")
    assert (scope["client"], scope["server"]) == (None, ("/run/x.sock", None))
    assert scope["extensions"]["tls"]["client_cert_name"] == "CN=a"
    websocket = websocket_scope(request("/"), secure, "", {})
    assert websocket["scheme"] == "wss"
    assert websocket["extensions"]["tls"] == scope["extensions"]["tls"]
    assert websocket["extensions"]["tls"] is not scope["extensions"]["tls"]


def test_a_websocket_scope_has_subprotocols_and_no_method():
    headers = [("Host", "x"), ("Sec-WebSocket-Protocol", "a,, b"), ("Sec-WebSocket-Protocol", "c,")]
    scope = websocket_scope(request("/", headers=headers), HERE, "", {})
    assert (scope["type"], scope["scheme"]) == ("websocket", "ws")
    assert scope["subprotocols"] == ["a", "b", "c"]
    assert "method" not in scope
