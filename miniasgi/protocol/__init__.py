"""The road: what a byte passes between the socket and the application.

Read it in this order: `runtime`, `file`, `connection`, `http1`, `strict`, `intake`, `scope`, `exchange`,
`websocket`; `recall` last. `tls_scope`, `tls_transport` and `recall` may be skipped.

Nothing here imports more of miniasgi than `asgi`, `config` and `explain`; a test holds that.
"""
