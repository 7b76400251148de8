"""The road: what a byte passes between the socket and the application.

Read it in this order: `runtime`, `file`, `connection`, `http1`, `strict`, `intake`, `scope`, `exchange`,
`websocket`; the short ways, `recall` and `frames`, last. Those may be skipped, and so may `tls_scope` and
`tls_transport`.

Nothing here imports more of miniasgi than `asgi`, `config` and `explain`; a test holds that.
"""
