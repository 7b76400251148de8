"""The inspector: a page on which what passes is seen while it passes. `miniasgi serve APP --inspect`.

It is an ASGI application of ours (`application`), served by a Server of its own in a thread of its own: an
application that blocks its loop can be looked at while it does. To be read in this order: `kept`, `page`,
`application`, `serving`.
"""

from .page import as_html
from .serving import inspector, pass_on

__all__ = ["as_html", "inspector", "pass_on"]
