"""Applications that misuse ASGI, each in one way: the request's path names which.

`tests/test_misuses.py` serves them through the command line and reads what is said.
"""

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"hello"}


async def body_before_start(receive, send):
    await send({"type": "http.response.body", "body": b"hello"})


async def misspelt_type(receive, send):
    await send({"type": "http.respones.start", "status": 200})


async def misspelt_key(receive, send):
    await send({"type": "http.response.start", "stauts": 200})


async def no_type(receive, send):
    await send({"tpye": "http.response.start", "status": 200})


async def no_dict(receive, send):
    await send("http.response.start")


async def str_header(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [("content-type", "text/html")]})


async def dict_headers(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": {b"content-type": b"text/html"}})


async def header_with_newline(receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"location", b"/a\r\nset-cookie: b")]}
    )


async def header_with_space(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content type", b"text/html")]})


async def upper_case_header(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/html")]})
    await send(BODY)


async def str_body(receive, send):
    await send(START)
    await send({"type": "http.response.body", "body": "hello"})


async def misspelt_headers_key(receive, send):
    await send({"type": "http.response.start", "status": 200, "header": [(b"content-type", b"text/html")]})
    await send(BODY)


async def misspelt_more_body_key(receive, send):
    await send(START)
    await send({"type": "http.response.body", "body": b"hello", "more": True})


async def body_by_another_name(receive, send):
    await send(START)
    await send({"type": "http.response.body", "content": b"hello"})


async def misspelt_body_key(receive, send):
    await send(START)
    await send({"type": "http.response.body", "bdoy": b"hello"})


async def no_status(receive, send):
    await send({"type": "http.response.start"})


async def str_status(receive, send):
    await send({"type": "http.response.start", "status": "200"})


async def status_of_101(receive, send):
    await send({"type": "http.response.start", "status": 101})


async def two_starts(receive, send):
    await send(START)
    await send({"type": "http.response.start", "status": 500})


async def start_after_the_end(receive, send):
    await send(START)
    await send(BODY)
    await send({"type": "http.response.start", "status": 500})


async def more_than_promised(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello", "more_body": True})
    await send({"type": "http.response.body", "body": b" world"})


async def less_than_promised(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def send_not_awaited(receive, send):
    send({"type": "http.response.start", "status": 200})
    send({"type": "http.response.body", "body": b"hello"})


async def wrapped_send_not_awaited(receive, send):
    async def send_wrapper(message):
        await send(message)

    send_wrapper(START)


async def send_of_one_s_own_not_awaited(receive, send):
    class Mail:
        async def send(self, text):
            """Of no ASGI."""

    Mail().send("hello")


async def receive_not_awaited(receive, send):
    message = receive()
    assert message["type"] == "http.request"


async def no_answer(receive, send):
    pass


async def half_an_answer(receive, send):
    await send(START)
    await send({"type": "http.response.body", "body": b"hello", "more_body": True})


async def websocket_message(receive, send):
    await send({"type": "websocket.accept"})


# ---- WebSocket --------------------------------------------------------------------------------------------


async def accept_twice(receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.accept"})


async def send_before_accept(receive, send):
    await send({"type": "websocket.send", "text": "hello"})


async def both_text_and_bytes(receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello", "bytes": b"hello"})


async def neither_text_nor_bytes(receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "txt": "hello"})


async def bytes_as_text(receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": b"hello"})


async def http_response(receive, send):
    await send({"type": "http.response.start", "status": 403})


async def subprotocol_not_offered(receive, send):
    await send({"type": "websocket.accept", "subprotocol": "chat"})


async def subprotocol_as_header(receive, send):
    await send({"type": "websocket.accept", "headers": [(b"sec-websocket-protocol", b"chat")]})


async def close_code_of_1006(receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1006})


async def str_close_code(receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": "1000"})


async def send_after_close(receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})
    await send({"type": "websocket.send", "text": "hello"})


async def returned_answer(receive, send):
    return {"status": 200}


async def no_answer_to_the_handshake(receive, send):
    pass


# ---- serving them -----------------------------------------------------------------------------------------


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await globals()[scope["path"].strip("/")](receive, send)


async def complete_twice(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.startup.complete"})


async def shutdown_before_startup(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def not_async(scope, receive, send):
    send({"type": "http.response.start", "status": 200})


def not_async_as_a_call_shows(scope, receive, send):
    answer = print(scope["type"])
    send({"type": "http.response.start", "status": 200})
    return answer


def asgi_2(scope):
    async def instance(receive, send):
        await send(START)

    return instance


class AsgiTwo:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await send(START)


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


class NotCallable:
    async def handle(self, scope, receive, send):
        await send(START)


class Site:
    async def __call__(self, scope, receive, send):
        await send(START)


instance = NotCallable()


async def main(scope, receive, send):
    await send(START)


def __getattr__(name):
    if name == "coroutine":  # made here, where it is asked for: it would be warned of elsewhere
        return main({}, None, None)
    raise AttributeError(name)
