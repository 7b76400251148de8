"""Http1Connection: h11 between the socket and the exchanges.

It owns the cycle of an HTTP/1.1 connection: bytes in, events, one exchange at a time, bytes out, the next
request. h11 owns framing and keep-alive, and its states are asked for them, but for what goes the short way:
plain requests and answers (see `recall`), and chunks once a body is under way. What came and h11 was not
given yet is the intake's, and a new head is taken from there when the answer before it is complete.

Rules: one pump, never re-entered, and `write_body` never starts the next request. State changes after the
bytes were made. What a response is made of leaves in one `transport.write` where it is small. Next in
reading order: `strict`.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any

import h11

from ..asgi import ClientDisconnected, Scope
from ..explain.messages import Unsendable, are_links, pair_fault
from ..explain.shown import shown
from .connection import LARGE_WRITE, SHARE, TURN, Connection
from .exchange import Exchange, Headers
from .file import FilePart
from .intake import Intake
from .reasons import REASONS
from .recall import Known, PlainAnswer, PlainRequest, Recall
from .runtime import Page, Runtime, Visit
from .scope import (
    Endpoint,
    asks_for_trailers,
    fresh_http_scope,
    http_scope,
    proposes_websocket,
    websocket_scope,
)
from .strict import BadRequest, check_request, rule_behind
from .tls_scope import tls_facts

if TYPE_CHECKING:  # else with the first WebSocket: wsproto is a tenth of a start, and many servers need none
    from .websocket import WebSocketConnection, WebSocketExchange

log = logging.getLogger("miniasgi")

# How much of a body may wait for the application before the client has to: as much as in asyncio's streams.
HIGH_WATER = 64 * 1024
# How much of a body that nobody wants is read to keep the connection; Go's net/http reads as much.
MAX_UNWANTED = 256 * 1024
# So many chunks of a body count as one event of a turn: one takes 3 µs, and a request 10.
CHUNKS = 4
# When a client that was one too many may come again, in seconds: a guess, since nobody knows.
RETRY_AFTER = b"1"

# How the head of a plain answer ends: (is its body in chunks, is the connection closed behind it) → bytes.
ENDS_HEAD = {
    (False, False): b"date: %b\r\nserver: miniasgi\r\n\r\n",
    (False, True): b"date: %b\r\nserver: miniasgi\r\nConnection: close\r\n\r\n",
    (True, False): b"date: %b\r\nserver: miniasgi\r\nTransfer-Encoding: chunked\r\n\r\n",
    (True, True): b"date: %b\r\nserver: miniasgi\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
}
LAST_CHUNK = b"0\r\n\r\n"

# Headers that an application cannot set: in a response, in one without a length, when it accepts a WebSocket.
RESPONSE_OWNS = (b"transfer-encoding",)
LENGTHLESS_OWNS = (*RESPONSE_OWNS, b"content-length")
SAID_ONCE = (b"date", b"server")  # by the application or by us
ACCEPTANCE_OWNS = (
    *LENGTHLESS_OWNS,
    b"connection",
    b"upgrade",
    b"sec-websocket-accept",
    b"sec-websocket-extensions",
)


class Http1Connection(Connection):
    """One HTTP/1.1 connection. Made by Arrival; ends by `close`, or becomes a WebSocketConnection."""

    __slots__ = (
        "answer",  # the head of a plain response, while that is under way
        "asked",  # h11 was given bytes, and has not told of all that is in them
        "began",  # when the request under way was complete to its headers, in the runtime's time
        "chunked",  # a part of this body was framed as a chunk, as all others will be
        "endpoint",  # who speaks with whom
        "exchange",  # the request that is being answered; None between two
        "h11",  # made when it is needed, which of plain requests it is not; to be asked as `authority`
        "head",  # the head of the response, until its first bytes leave with it
        "intake",  # what came and h11 was not given yet
        "known",  # what recall remembers of this connection
        "pumping",  # the pump runs; who finds it running need do nothing
        "recall",  # knows what h11 would say; None where it is asked each time
        "request",  # the request that is being read or answered; None while the next one is awaited
        "response",  # the head of the response, once it has left
        "untold",  # the request that is being answered is a plain one, of which h11 was not told
        "unwanted",  # bytes that were dropped of a body after its response
    )

    def __init__(self, runtime: Runtime, transport: asyncio.Transport) -> None:
        super().__init__(runtime, transport)
        self.h11: h11.Connection | None = None
        self.recall = runtime.recall
        self.known = Known()
        self.untold = False
        self.answer: PlainAnswer | None = None
        self.asked = False
        self.chunked = False
        self.intake = Intake(runtime.config)
        self.endpoint = endpoint_of(transport, runtime.server_cert)
        self.request: h11.Request | PlainRequest | None = None
        self.exchange: Exchange | WebSocketExchange | None = None
        self.head: h11.Response | None = None
        self.response: h11.Response | PlainAnswer | None = None
        self.began = 0.0
        self.unwanted = 0
        self.pumping = False
        self.expect_within(runtime.config.timeout_keep_alive)

    def __repr__(self) -> str:
        return f"<Http1Connection {self.h11 and self.h11.states} {self.exchange}>"

    @property
    def authority(self) -> h11.Connection:
        """The authority on what was read and what may be written, once it knows of all that was read."""
        self.settle()
        if self.h11 is None:
            self.h11 = self.make_h11()
        return self.h11

    def make_h11(self) -> h11.Connection:
        return h11.Connection(h11.SERVER)

    # ---- bytes in ----

    def data_received(self, data: bytes) -> None:
        first = self.request is None and not self.intake.begun
        self.intake.receive(data)
        self.pump()
        if self.request is None and first and self.intake.begun:  # of a head that is not whole yet
            self.expect_within(self.runtime.config.timeout_head)

    def on_client_ended(self) -> bool:
        """True while an answer is owed."""
        self.intake.ended = True
        self.pump()
        if isinstance(self.exchange, Exchange):
            if self.exchange.complete:  # otherwise the rest of it is still to be taken by the pump
                self.exchange.on_client_closed()
        elif self.exchange is not None:  # a WebSocket cannot be had any more
            self.close()
        return self.current  # who has it now was told

    def pump(self) -> None:
        """Take h11's events, until it needs more, a response is awaited, or it is the turn of others."""
        if self.pumping or self.pump_due:
            self.balance()
            return
        self.pumping = True
        try:
            self.take_events()
        except BadRequest as error:
            self.refuse(error.status, str(error), error.headers)
        except h11.RemoteProtocolError as error:
            error.with_traceback(None)  # h11 raises it from a frame that holds it: a ring, with all of ours
            self.refuse(error.error_status_hint, rule_behind(error))
        finally:
            self.pumping = False
        self.balance()

    def take_events(self) -> None:
        left = TURN * CHUNKS
        while self.reads_on() and self.current:
            if left <= 0:
                self.pump_soon()
                return
            if self.request is None and self.recall is not None and self.begin_plain(self.recall):
                left -= CHUNKS
                continue
            event = self.next_event(left)
            if event is h11.NEED_DATA:
                if self.intake.ended:
                    self.on_end()
                return
            left -= self.intake.run if type(event) is h11.Data else CHUNKS
            ON_EVENT[type(event)](self, event)

    def reads_on(self) -> bool:
        """Whether h11 can be given more: a request's rest, or the next one while the client takes answers."""
        if self.request is None:
            return not self.writing_paused and (self.intake.ended or len(self.intake.data) > 0)
        return self.body_comes

    @property
    def body_comes(self) -> bool:
        """Whether more of the body of the request under way is to come."""
        return self.intake.left > 0 if self.untold else self.authority.their_state is h11.SEND_BODY

    def next_event(self, chunks: int) -> "h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]":
        """h11's next event, or a Data of at most so many chunks that h11 need not see. Raises BadRequest."""
        if self.untold:
            data = self.intake.piece()
            return h11.Data(data=data) if data else h11.NEED_DATA
        authority = self.authority
        while True:
            if self.asked:  # to ask once more would cost 7 µs a request
                event = authority.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self.asked = False
            # Between two chunks it remembers nothing, but whether a client waits to be asked for them.
            if self.recall is not None and not authority.they_are_waiting_for_100_continue:
                data = self.intake.plain_chunks(chunks)
                if data:
                    return h11.Data(data=data)
            piece = self.intake.piece()
            if not piece:
                return h11.NEED_DATA
            authority.receive_data(piece)
            self.asked = True

    def balance(self) -> None:
        """Let the client wait while too much waits for the application, or it does not take our answers."""
        crowded = isinstance(self.exchange, Exchange) and self.exchange.size > HIGH_WATER
        if not crowded and len(self.intake) > self.runtime.config.limit_pipelined:
            # Where h11 would be given more, a piece lies there whose rest is to come; that has a limit too.
            crowded = self.pump_due or not self.reads_on()
        if crowded is not self.reading_paused and self.current:
            if crowded:
                self.pause_reading()
            else:
                self.resume_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.request is None:  # what came in the meantime has waited
            self.expect_request()
            self.pump_soon()

    # ---- h11's events ----

    def on_request(self, request: h11.Request) -> None:
        self.request_begins(request)
        fields = dict(request.headers)
        check_request(request, fields)
        self.intake.expect_body(fields)
        self.check_concurrency()
        state, root_path = self.runtime.state, self.runtime.config.root_path
        if b"upgrade" in fields and proposes_websocket(request):
            self.begin_websocket(request, websocket_scope(request, self.endpoint, root_path, state))
            return
        exchange = self.exchange = self.exchange_of(http_scope(request, self.endpoint, root_path, state))
        # What has come of the body already is there before the application starts. A request without a
        # body is complete here.
        left = TURN * CHUNKS
        event = self.next_event(left)
        while type(event) is h11.Data:
            exchange.on_body(event.data)
            left -= self.intake.run
            if left <= 0:
                break
            event = self.next_event(left)
        if type(event) is h11.EndOfMessage:
            self.body_ended(exchange)
        exchange.start()

    def request_begins(self, request: h11.Request | PlainRequest) -> None:
        self.request = request
        self.began = self.runtime.time()
        # What an idle client had still to take is not looked at any more; it is measured by `sent`, besides.
        self.deadline = self.take_deadline = math.inf

    def exchange_of(self, scope: Scope) -> Exchange:
        if self.runtime.on_debug is not None:
            scope["extensions"]["http.response.debug"] = {}
        return Exchange(scope, self)

    def check_concurrency(self) -> None:
        """Raise BadRequest where the application has as many requests as it may (RFC 9110 section 15.6.4)."""
        limit = self.runtime.config.limit_concurrency
        if limit and len(self.runtime.calls) >= limit:
            text = "too many requests are under way; try again soon (RFC 9110 section 15.6.4)"
            raise BadRequest(text, 503, [(b"retry-after", RETRY_AFTER)])

    def body_ended(self, exchange: Exchange) -> None:
        exchange.on_body_end()
        if self.intake.ended:  # the client had ended its side behind this request already
            exchange.on_client_closed()

    def begin_websocket(self, request: h11.Request, scope: Scope) -> None:
        if self.intake.ended:  # a client that has ended its side cannot have one
            self.close()
            return
        from .websocket import WebSocketExchange, check_handshake

        check_handshake(request)
        self.exchange = WebSocketExchange(scope, self)
        self.authority.next_event()  # EndOfMessage: check_handshake lets no body through
        self.exchange.start()

    def on_data(self, event: h11.Data) -> None:
        if isinstance(self.exchange, Exchange):
            self.exchange.on_body(event.data)
            self.deadline = math.inf
            if self.untold and not self.intake.left:
                self.body_ended(self.exchange)
            return
        # The response is complete and nobody reads the rest of the request.
        self.unwanted += len(event.data)
        if self.unwanted > MAX_UNWANTED:
            self.close(linger=True)

    def on_end_of_message(self, event: h11.EndOfMessage) -> None:
        if isinstance(self.exchange, Exchange):
            self.body_ended(self.exchange)
            self.deadline = math.inf
        else:
            self.next_cycle()

    def on_end(self) -> None:
        """Nothing more comes, and it is not the end of a request: let go what no client waits for."""
        if self.body_comes:
            self.client_left()
        else:
            self.close()

    # ---- plain requests and answers: see `recall` ----

    def begin_plain(self, recall: Recall) -> bool:
        """Begin the next request without h11, if its head is there and plain."""
        head = self.intake.whole_head()
        request = recall.request(head, self.known) if head else None
        if request is None:
            return False
        body = self.intake.take_plain(len(head), request.length)
        self.untold = True
        self.request_begins(request)
        self.check_concurrency()
        scope = fresh_http_scope(
            request.method,
            request.place,
            list(request.headers),
            self.endpoint,
            self.runtime.config.root_path,
            self.runtime.state,
        )
        exchange = self.exchange = self.exchange_of(scope)
        if body:
            exchange.on_body(body)
        if not self.intake.left:
            self.body_ended(exchange)
        exchange.start()
        return True

    def settle(self) -> None:
        """Tell h11 of the plain request under way: from here on all is as if nothing had been recalled.

        What the application has of the body, and the client of the answer, h11 need not know. For it, both
        have the length of what is still to come.
        """
        if self.untold:
            assert isinstance(self.request, PlainRequest)  # the one that is untold
            self.untold = False
            authority = self.authority
            authority.receive_data(self.request.rest(self.intake.left))
            authority.next_event()
            if not self.intake.left:
                authority.next_event()  # EndOfMessage
            answer, self.answer = self.answer, None
            if answer is not None and self.response is answer:  # its client has a part of it
                authority.send(answer.rest(self.sent))
            elif answer is not None:
                self.make_head(answer.status_code, answer.headers, False, False, answer.date)

    def fits(self, answer: PlainAnswer, size: int, more_body: bool) -> bool:
        """Whether so many more bytes of a plain answer may be written, as its last ones or not."""
        if self.body_comes and not more_body:  # the rest of the request is h11's
            return False
        size += self.sent
        return answer.length is None or size == answer.length or (more_body and size < answer.length)

    def write_plain(self, answer: PlainAnswer, body: bytes, more_body: bool) -> None:
        """Write a part of a plain answer, or all of it, as h11 would."""
        assert isinstance(self.request, PlainRequest)  # the one that is untold
        parts = []
        if self.response is None:
            self.response = answer
            parts = [*answer.parts, ENDS_HEAD[answer.length is None, self.request.closes] % answer.date]
        if body:
            parts += [body] if answer.length is not None else chunk(body)
        if answer.length is None and not more_body:
            parts.append(LAST_CHUNK)
        self.sent += len(body)
        self.write_parts(parts)
        if more_body:
            self.chunked = answer.length is None
            return
        self.exchange = self.answer = None
        self.untold = False
        self.log_access()
        if self.request.closes:
            self.request = None  # as h11 need not know of it
            self.close(linger=self.intake.begun)
            return
        self.await_request()
        if not self.pumping:
            self.go_on()
            self.balance()

    # ---- what an exchange asks: Wire ----

    def write_response(self, status: int, headers: Headers, trailers: bool) -> None:
        if self.untold and self.recall is not None and not trailers:
            headers = list(headers)
            self.answer = self.recall.answer(status, headers, self.runtime.date)
        if self.answer is None:
            # A client that was promised to be asked for its body, and was not, may send it or not: after that
            # nobody could tell a body from a request. (RFC 9110 section 10.1.1)
            closes = self.runtime.stopping or self.authority.they_are_waiting_for_100_continue
            self.make_head(status, headers, trailers, closes, self.runtime.date)

    def make_head(self, status: int, headers: Headers, trailers: bool, closes: bool, date: bytes) -> None:
        """Have h11 make the head of the response. Raises Unsendable."""
        assert self.request is not None  # an exchange has one
        # The framing is h11's: ASGI has transfer-encoding ignored, and a 204 has no length (RFC 9110
        # section 8.6). Trailers stand behind chunks, which a length rules out (RFC 9112 section 7.1.2).
        without_length = status == 204 or (trailers and self.takes_trailers)
        ours = LENGTHLESS_OWNS if without_length else RESPONSE_OWNS
        lines = self.with_date_and_server(headers, (*ours, b"connection") if closes else ours, date)
        if closes:
            lines.append((b"connection", b"close"))
        try:
            self.head = h11.Response(status_code=status, headers=lines, reason=REASONS.get(status, b""))
        except h11.LocalProtocolError as error:
            raise Unsendable(head_fault(lines, error)) from error

    @property
    def takes_trailers(self) -> bool:
        """Whether trailers reach the client: it asked for them, and its response can have them."""
        assert self.request is not None
        request = self.request
        return (
            request.http_version != b"1.0"
            and request.method != b"HEAD"
            and asks_for_trailers(request.headers)
        )

    def with_date_and_server(
        self, headers: Headers, ours: Container[bytes], date: bytes
    ) -> list[tuple[bytes, bytes]]:
        """The application's headers without those that are ours to set, and with what every answer has.

        Raises Unsendable for what is no pair of bytes: h11 would encode a str, and a generator can be looked
        at only here.
        """
        lines = []
        names = set()
        for line in headers:
            try:
                name, value = line
                right = isinstance(name, bytes) and isinstance(value, bytes)
            except (TypeError, ValueError):
                right = False
            if not right:
                raise Unsendable(f"'headers' {pair_fault(line)}")
            lower = name.lower()
            if lower not in ours and not (lower in SAID_ONCE and lower in names):
                lines.append((name, value))
                names.add(lower)
        if b"date" not in names:
            lines.append((b"date", date))
        if b"server" not in names:
            lines.append((b"server", b"miniasgi"))
        return lines

    def write_early_hint(self, links: Iterable[bytes]) -> None:
        """Ignored where it cannot help any more, and where it could harm.

        HTTP/1.0 has no informational responses (RFC 9110 section 15.2). A client that waits for a 100 would
        wait on, since h11 takes any of them for the one.
        """
        assert self.request is not None
        links = list(links)
        if not links:
            return
        if wrong := are_links(links):
            raise Unsendable(f"'links' {wrong}")
        late = (
            self.authority.our_state is not h11.SEND_RESPONSE
            or self.authority.they_are_waiting_for_100_continue
        )
        if not late and self.request.http_version != b"1.0":
            lines = [(b"link", link) for link in links]
            hint = h11.InformationalResponse(status_code=103, headers=lines, reason=b"Early Hints")
            self.write(self.authority.send(hint))
            self.flush()  # it is of use while the application does something else

    def write_body(self, body: bytes, more_body: bool) -> None:
        if self.chunked and more_body and body:
            self.sent += len(body)
            if len(body) < LARGE_WRITE:  # 5 % less for a small event than to join the parts
                self.write(b"%x\r\n%b\r\n" % (len(body), body))
            else:
                self.write_parts(chunk(body))
            return
        if self.answer is not None and self.fits(self.answer, len(body), more_body):
            self.write_plain(self.answer, body, more_body)
            return
        parts = self.frame(body, None if more_body else h11.EndOfMessage())
        self.write_parts(parts)
        if not more_body:
            self.response_complete()

    async def write_file(self, part: FilePart) -> None:
        self.settle()
        if part.whole and self.head is not None:
            self.cut_to_length(part, self.head)
        # h11 frames whatever has a length, and hands it back as it is.
        pieces = self.frame(part, None)
        try:
            for piece in pieces:
                if isinstance(piece, FilePart):
                    await self.send_file(piece)
                else:
                    self.write(piece)
        except ClientDisconnected:
            self.break_off()
            raise
        except BaseException as error:  # cancellation, too: what was begun cannot be ended any more
            text = "%s: the response is broken off after %d bytes of its body: %s"
            if self.exchange is not None:  # else the client has left, and that is no news
                log.warning(text, self.exchange.name, self.sent, shown(error))
            self.break_off()
            raise

    def cut_to_length(self, part: FilePart, head: h11.Response) -> None:
        """A file may have grown since it was asked for its length: what stood there then is sent."""
        assert self.exchange is not None  # who asks for it
        length = length_of(head)
        if length is not None and length < part.count:
            text = f"the file has {part.count} bytes, of which content-length lets {length} be sent"
            self.runtime.tell(logging.WARNING, f"{self.exchange.name}: {text}", None)
            part.count = length

    def write_trailers(self, headers: Headers) -> None:
        taken = self.takes_trailers and not self.is_bodiless
        lines = [line for line in headers if taken and line[0].lower() not in LENGTHLESS_OWNS]
        self.write_parts(self.frame(b"", h11.EndOfMessage(headers=lines)))
        self.response_complete()

    @property
    def is_bodiless(self) -> bool:
        """Whether the response has no body, whatever its head says (RFC 9112 section 6.3)."""
        assert self.request is not None
        head = self.head or self.response
        return self.request.method == b"HEAD" or (head is not None and head.status_code in (204, 304))

    def frame(self, body: bytes | FilePart, end: h11.EndOfMessage | None) -> list[Any]:
        """The head, if it has not left yet, and this part of the body, as h11 puts them on the wire."""
        self.settle()
        bodiless = self.is_bodiless
        events: list[h11.Event] = []
        if self.head is not None:
            events.append(self.head)
        if len(body) and not bodiless:
            events.append(h11.Data(data=body))  # type: ignore[arg-type]  # whatever has a length
        if end is not None:
            events.append(end)
        try:
            parts = [
                part for event in events for part in self.authority.send_with_data_passthrough(event) or ()
            ]
        except h11.LocalProtocolError as error:
            raise Unsendable(self.length_error(str(error), len(body))) from error
        if self.head is not None:
            self.response, self.head = self.head, None
        if self.recall is not None and end is None and len(body):
            self.chunked = parts[-3:] == chunk(body)
        if not (bodiless or isinstance(body, FilePart)):  # a file is counted as it is sent
            self.sent += len(body)
        return parts

    def length_error(self, text: str, size: int) -> str:
        """h11's words, where they are about the length of the body with what they do not say."""
        head = self.head or self.response
        length = None if head is None else length_of(head)
        if text.startswith("Too much data"):
            so_far = " so far" if self.sent else ""
            return f"the body has {self.sent + size} bytes{so_far}, more than its content-length of {length}"
        if text.startswith("Too little data"):
            return (
                f"the body ends with {self.sent + size} bytes, fewer than its content-length of {length}; "
                "if more is to come, is 'more_body': True missing?"
            )
        return text

    def want_body(self) -> None:
        if not self.untold and self.authority.they_are_waiting_for_100_continue:
            going_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self.write(self.authority.send(going_on))
        self.balance()
        if self.body_comes and self.deadline == math.inf:  # who asks again has no more time
            self.expect_within(self.runtime.config.timeout_body)

    def client_left(self) -> None:
        if self.response is None or self.authority.our_state in (h11.DONE, h11.MUST_CLOSE):
            self.close()
        else:
            self.break_off()

    def app_failed(self, status: int, page: Page | None) -> None:
        self.refuse(status, page=page)

    # ---- the end of a response ----

    def response_complete(self) -> None:
        """The last byte of a response was written. The next request is the pump's to begin."""
        self.exchange = None
        self.log_access()
        states = (self.authority.their_state, self.authority.our_state)
        if states == (h11.SEND_BODY, h11.DONE) and not self.runtime.stopping:
            # The rest of the request is to come, and nobody wants it.
            self.expect_within(self.runtime.config.timeout_body)
        elif self.next_cycle() and not self.pumping:
            self.go_on()
        if not self.pumping:  # which does so at its end
            self.balance()

    def go_on(self) -> None:
        """The pump is to take what waits already."""
        if self.intake.begun or self.intake.ended:
            self.pump_soon()

    def next_cycle(self) -> bool:
        """After a response and its request: wait for the next request (True), or finish."""
        states = (self.authority.their_state, self.authority.our_state)
        if states != (h11.DONE, h11.DONE) or self.runtime.stopping:
            self.finish()
            return False
        self.authority.start_next_cycle()
        self.await_request()
        return True

    def await_request(self) -> None:
        """All is as it was before the first request of this connection."""
        self.request = self.response = None
        self.asked = self.chunked = False
        self.sent = self.unwanted = 0
        self.share = SHARE
        if self.writing_paused:
            self.expect_taking()  # it is measured by `sent`
        self.expect_request()

    def expect_request(self) -> None:
        config = self.runtime.config
        self.expect_within(config.timeout_head if self.intake.begun else config.timeout_keep_alive)

    def finish(self) -> None:
        """Close behind a whole response."""
        all_read = self.authority.their_state in (h11.DONE, h11.MUST_CLOSE) and not self.intake.begun
        self.close(linger=not all_read)

    def close(self, *, linger: bool = False) -> None:
        """As Connection has it; but a client that has ended its side sends no more, and is not waited for."""
        super().close(linger=linger and not self.intake.ended)

    def refuse(self, status: int, text: str = "", headers: Headers = (), page: Page | None = None) -> None:
        """Answer in the server's own name if nothing has left yet, else break off; close the connection.

        `text` names the rule that was broken. It is never the application's: that would tell strangers
        about its inside. A `page` is, and stands in place of all other text: there is one with --debug only.
        """
        if text:  # behind a proxy, perhaps nobody sees the answer
            log.debug("%s: refused with %d: %s", self.visit().client, status, text)
        if self.authority.our_state in (h11.DONE, h11.MUST_CLOSE):
            self.close(linger=True)  # the response is complete, and what is wrong came behind it
        elif self.response is not None:
            self.break_off()
        else:
            phrase = REASONS[status]
            body = b"%d %s\n" % (status, phrase) + (text.encode("ascii", "replace") + b"\n" if text else b"")
            content_type, body = page or (b"text/plain; charset=utf-8", body)
            # h11's own state may be ERROR by what the application or the client did; this answer starts
            # from a connection that knows nothing, and is the last one.
            writer = h11.Connection(h11.SERVER)
            lines = [
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
                *headers,
            ]
            head = h11.Response(
                status_code=status,
                headers=self.with_date_and_server(lines, (), self.runtime.date),
                reason=phrase,
            )
            answer = writer.send(head)
            self.response = head
            if self.request is None or self.request.method != b"HEAD":
                answer += writer.send(h11.Data(data=body))
                self.sent = len(body)
            self.write(answer)
            if self.exchange is None:
                self.log_access()
            self.close(linger=True)

    def on_stuck(self) -> None:
        if self.exchange is not None:
            seconds = self.runtime.config.timeout_send
            log.info("%s: the client took nothing for %g s, and is given up", self.exchange.name, seconds)
        self.break_off()

    def break_off(self) -> None:
        """End the connection in the middle of a response, so that the client can tell.

        HTTP/1.0 takes the end of the connection for that of the body, but not a reset.
        """
        self.abort(reset=self.request is not None and self.request.http_version == b"1.0")

    def give_up(self) -> None:
        if self.exchange is not None and self.response is not None:
            self.break_off()
        else:
            super().give_up()

    def log_access(self) -> None:
        if self.runtime.access is not None:
            status = 0 if self.response is None else self.response.status_code
            self.runtime.log_access(self.visit(), status, self.sent)

    def visit(self) -> Visit:
        client = f"{self.endpoint.client[0]}:{self.endpoint.client[1]}" if self.endpoint.client else "-"
        if self.request is None:
            return Visit(client, b"-", self.runtime.time())
        line = b"%s %s HTTP/%s" % (self.request.method, self.request.target, self.request.http_version)
        return Visit(client, line, self.began)

    # ---- the connection's own end ----

    def upgrade(
        self, exchange: "WebSocketExchange", headers: Headers, subprotocol: str | None
    ) -> "WebSocketConnection":
        """Answer 101 and hand the transport to a WebSocketConnection. Raises Unsendable."""
        from .websocket import acceptance

        assert isinstance(self.request, h11.Request)  # a plain one asks for no WebSocket
        deflate = self.runtime.config.ws_per_message_deflate
        agreed, extensions = acceptance(self.request, subprotocol, deflate)
        lines = self.with_date_and_server(headers, ACCEPTANCE_OWNS, self.runtime.date)
        if any(name.lower() == b"sec-websocket-protocol" for name, _ in lines):
            raise Unsendable("websocket.accept names a subprotocol by 'subprotocol', not in 'headers'")
        lines = [*agreed, *lines]
        try:
            switching = h11.InformationalResponse(status_code=101, headers=lines, reason=REASONS[101])
        except h11.LocalProtocolError as error:
            raise Unsendable(head_fault(lines, error)) from error
        self.write(self.authority.send(switching))
        short = self.recall is not None and not extensions
        visit = self.visit() if self.runtime.access is not None else None
        successor = self.successor(self, exchange, extensions, visit, self.intake.rest(), short)
        self.exchange = None
        self.become(successor)
        return successor

    @property
    def successor(self) -> "type[WebSocketConnection]":
        """What it becomes when a WebSocket is accepted."""
        from .websocket import WebSocketConnection

        return WebSocketConnection

    def on_deadline(self) -> None:
        if self.request is None and (self.writing_paused or not self.intake.begun):
            self.on_idle()
        elif self.exchange is None and self.body_comes:
            self.close(linger=True)  # the rest of a request, which nobody waits for
        elif self.exchange is not None and not self.exchange.is_asked:
            self.deadline = math.inf  # the application has given up waiting for the body
        else:
            self.refuse(408, "the rest of the request did not come in time (RFC 9110 section 15.5.9)")

    def on_idle(self) -> None:
        """Nothing has come for the time of keep-alive: close, unless the last answer is still being taken."""
        if self.is_taking():
            self.expect_within(self.runtime.config.timeout_keep_alive)
        else:
            self.close()

    def stop(self) -> None:
        """The server stops: what no application has seen is let go, what one works on is answered first."""
        self.settle()  # a plain answer does not ask whether the server stops
        if self.request is None:
            # Answers may be on their way, and requests behind them unread.
            self.close(linger=self.pump_due or self.reading_paused or self.is_taking())
        elif self.exchange is None:
            self.finish()

    def on_released(self) -> None:
        """The request under way will have no (more) answer from the application."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_disconnect()
            self.log_access()


ON_EVENT: dict[type, Callable[[Http1Connection, Any], None]] = {
    h11.Request: Http1Connection.on_request,
    h11.Data: Http1Connection.on_data,
    h11.EndOfMessage: Http1Connection.on_end_of_message,
}


def chunk(data: bytes | FilePart) -> list[Any]:
    """The data as h11 frames it in a body of unknown length, which it does without remembering anything."""
    return [b"%x\r\n" % len(data), data, b"\r\n"]


def head_fault(lines: Headers, error: h11.LocalProtocolError) -> str:
    """What is wrong with a head that h11 refuses; its own words where the headers are not to blame."""
    wrong = next(filter(None, map(pair_fault, lines)), "")
    return f"'headers' {wrong}" if wrong else str(error)


def length_of(head: h11.Response | PlainAnswer) -> int | None:
    """The content-length of a response, which h11 has checked."""
    if isinstance(head, PlainAnswer):
        return head.length
    return next((int(value) for name, value in head.headers if name == b"content-length"), None)


def endpoint_of(transport: asyncio.Transport, server_cert: str | None) -> Endpoint:
    """Who speaks with whom, as ASGI wants it said; read once a connection."""
    server = transport.get_extra_info("sockname")
    client = transport.get_extra_info("peername")
    ssl_object = transport.get_extra_info("ssl_object")
    tls = None if ssl_object is None else tls_facts(ssl_object, server_cert)
    if isinstance(server, tuple):
        return Endpoint(client[:2] if client else None, server[:2], tls)
    return Endpoint(None, (server, None) if server else None, tls)
