"""`--debug`: what a client is shown of a failure, instead of a bare 500.

The traceback, the request and the conversation of this call: a page for a browser, text for everybody else.
Headers that may be secrets are masked, since such pages are sent around; the query and the bodies are not.
Without `--debug` nothing of it is made.
"""

import logging
import traceback
from typing import Any

from ..asgi import Scope
from ..explain.frames import is_call_itself, not_called, of_application, summary
from ..explain.messages import sent_by
from ..explain.shown import MASKED, is_secret
from ..protocol.runtime import Page
from .conversation import Conversation, current

log = logging.getLogger("miniasgi")


def warn(text: str, lines: list[str]) -> None:
    """Log a piece of advice, and the lines that it is about."""
    log.warning("%s", sent_by(text, lines))


def show_failure(scope: Scope, error: BaseException | None) -> Page:
    """(content type, body) of the answer to a request whose application raised, or returned too early."""
    shown = Failure(scope, error, current.get(Conversation(scope)))
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    if b"text/html" in accept:
        return b"text/html; charset=utf-8", shown.page().encode(errors="replace")
    return b"text/plain; charset=utf-8", shown.text().encode(errors="replace")


class Failure:
    """Made for one answer: what is known of a failure, as text or as a page."""

    def __init__(self, scope: Scope, error: BaseException | None, conversation: Conversation) -> None:
        self.scope = scope
        self.error = error
        self.conversation = conversation

    # ---- what there is to show ----

    @property
    def request(self) -> str:
        target = self.scope["raw_path"] + (
            b"?" + self.scope["query_string"] if self.scope["query_string"] else b""
        )
        return f"{self.scope.get('method', 'WebSocket')} {target.decode('ascii', 'backslashreplace')}"

    @property
    def summary(self) -> str:
        if self.error is None:
            return "the application returned before its answer was complete"
        return not_called(self.error) if is_call_itself(self.error) else summary(self.error)

    @property
    def trace(self) -> str:
        if self.error is None or is_call_itself(self.error):
            return ""
        return "".join(traceback.format_exception(*of_application(self.error)))

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            (name.decode("latin-1"), MASKED if is_secret(name) else value.decode("latin-1"))
            for name, value in self.scope["headers"]
        ]

    # ---- its two forms ----

    def text(self) -> str:
        parts = [f"{self.request}\n{self.summary}", self.trace.rstrip()]
        parts.append("\n".join(["The conversation:", *self.conversation.lines]))
        parts.append("\n".join(["The request:", *(f"  {name}: {value}" for name, value in self.headers)]))
        parts.append("(Shown because the server runs with --debug.)\n")
        return "\n\n".join(filter(None, parts))

    def page(self) -> str:
        import html  # which has a large table of names, and without --debug no use

        escaped: dict[str, Any] = {
            "request": html.escape(self.request),
            "summary": html.escape(self.summary),
            "trace": html.escape(self.trace) or "It raised nothing.",
            "messages": "".join(
                f"<tr><td>{at}<td>{way}<td><code>{html.escape(text)}</code>"
                for at, way, text in self.conversation.rows
            )
            or "<tr><td colspan=3>Not a message was received or sent.",
            "headers": "".join(
                f"<tr><td>{html.escape(name)}<td><code>{html.escape(value)}</code>"
                for name, value in self.headers
            ),
        }
        return PAGE.format(**escaped)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>500 {request}</title>
<style>
:root {{
  color-scheme: light dark;
  --line: #8884; --soft: #8881; --bad: light-dark(#b3261e, #ff8a80);
}}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }}
h1 {{ font-size: 1.35rem; color: var(--bad); overflow-wrap: anywhere; margin: 0; }}
h2 {{ font-size: 1rem; margin: 2rem 0 .5rem; }}
pre, code {{ font: 13px/1.5 ui-monospace, monospace; }}
pre {{
  background: var(--soft); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem; overflow-x: auto;
}}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{
  border-top: 1px solid var(--line); padding: .3rem .8rem .3rem 0;
  text-align: left; vertical-align: top;
}}
.messages td:not(:last-child) {{ white-space: nowrap; }}
.request td:first-child {{ min-width: 6rem; overflow-wrap: anywhere; }}
td:last-child {{ width: 100%; }}
td code {{ overflow-wrap: anywhere; white-space: pre-wrap; }}
footer {{ margin-top: 2rem; opacity: .7; }}
</style>
<p>{request}</p>
<h1>{summary}</h1>
<h2>Traceback</h2>
<pre>{trace}</pre>
<h2>Conversation</h2>
<table class=messages><tr><th>ms<th>way<th>message{messages}</table>
<h2>Request</h2>
<table class=request>{headers}</table>
<footer>miniasgi shows this because it runs with --debug.</footer>
</html>
"""
