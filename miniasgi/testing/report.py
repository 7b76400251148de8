"""What pytest is told of the conversations of a test that failed: its requests, as text.

Only imported where a server was used.
"""

from .served import recent, running

# How many exchanges a report shows, the last ones.
SHOWN = 10


def conversations(since: float) -> str:
    """What was said since then, in seconds of time.monotonic(); "" where nothing was."""
    exchanges = [each for server in {*recent, *running} for each in server.exchanges if each.began >= since]
    if not exchanges:
        return ""
    exchanges.sort(key=lambda each: each.began)
    left_out = len(exchanges) - SHOWN
    head = [f"({left_out} exchanges before these)"] if left_out > 0 else []
    return "\n\n".join([*head, *(each.report for each in exchanges[-SHOWN:])])
