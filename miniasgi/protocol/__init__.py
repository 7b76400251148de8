"""The road: what a byte passes between the socket and the application.

Read it in this order: `runtime`, `file`, `connection`, `http1`, `scope`, `exchange`, `websocket`. `tls_scope`
and `tls_transport` may be skipped.

Nothing here imports more of miniasgi than `asgi`, `config` and `explain`; a test holds that.
"""
