"""The page as one piece of HTML: its style and its script inside, and perhaps records; it fetches nothing."""

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent


def as_html(lines: Iterable[str] | None = None) -> str:
    """The page that shows these lines, a header and records; without any, the one that asks its server."""
    page = read("page.html")
    page = page.replace('<link rel="stylesheet" href="page.css">', f"<style>\n{read('page.css')}</style>")
    page = page.replace('<script src="page.js"></script>', f"<script>\n{read('page.js')}</script>")
    if lines is None:
        return page
    # Nothing in there ends the element: JSON may have \u003c for every <.
    text = "\n".join(lines).replace("<", "\\u003c")
    return page.replace(
        "<!-- records -->", f'<script type="application/jsonl" id="records">\n{text}\n</script>'
    )


def read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
