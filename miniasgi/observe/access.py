"""The access log: one line a request, through the logger `miniasgi.access`.

    127.0.0.1:50000 "GET /path HTTP/1.1" 200 12 0.4ms

client, request line, status, bytes of the body, milliseconds from the request's head to the response's last
byte. A status of `-` is a client that left before there was one. A WebSocket has its line at its end: status
101, bytes of the frames sent, how long it was open.
"""

import logging

from ..protocol.runtime import Visit

log = logging.getLogger("miniasgi.access")


def log_request(visit: Visit, status: int, sent: int, seconds: float) -> None:
    if log.isEnabledFor(logging.INFO):
        line = visit.line.decode("ascii")  # h11 lets nothing but visible ASCII into a request line
        log.info('%s "%s" %s %d %.1fms', visit.client, line, status or "-", sent, seconds * 1000)
