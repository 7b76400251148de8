"""The road: what a byte passes between the socket and the application.

Read it in this order: `runtime`, `connection`, `http1`, `scope`, `exchange`, `websocket`.

Nothing here imports more of miniasgi than `asgi` and `config`; a test holds that.
"""
