"""Options of uvicorn, hypercorn, daphne, granian and gunicorn, and what stands for each here.

A leaf, and a table. Options that mean the same here, such as --host, are not in it: they exist.
"""

# What each of some options is told; it completes "there is no --bind: …".
HERE = {
    # the address
    ("-b", "--bind", "--insecure-bind"): "--host and --port say where to listen",
    ("-p",): "--port says the port",
    ("-e", "--endpoint"): "--host and --port say where to listen, --ssl-certfile and --ssl-keyfile bring TLS",
    ("--uds", "--unix-socket"): "it listens on TCP alone, by --host and --port",
    ("--fd",): "sockets are not taken over from a parent process; --host and --port say where to listen",
    # processes
    (
        "-w",
        "--workers",
        "--preload",
    ): "it is one process; for more, start it on several ports, behind a proxy",
    ("--threads", "--runtime-threads", "--blocking-threads"): "the application runs in one event loop",
    ("-k", "--worker-class"): "it is one process, whose event loop --loop chooses",
    ("--reload-paths",): "--reload-dir is the same",
    ("--reload-include", "--reload-exclude", "--reload-extra-file"): (
        "--reload watches all Python files; --reload-dir says in which folders"
    ),
    ("--reload-ignore-dirs", "--reload-ignore-patterns", "--reload-ignore-paths"): (
        "--reload watches all Python files; --reload-dir says in which folders"
    ),
    ("--reload-engine", "--reload-delay", "--reload-tick"): (
        "--reload watches by the package watchfiles where it is installed, else by modification times"
    ),
    ("--max-requests", "--max-requests-jitter", "--limit-max-requests", "--limit-max-requests-jitter"): (
        "no number of requests ends it"
    ),
    ("-D", "--daemon", "--pid", "--pidfile", "--user", "--group", "--umask"): (
        "it stays in the foreground, as who started it; systemd, for one, can do the rest"
    ),
    # the application
    ("--chdir", "--pythonpath", "--working-dir"): "--app-dir puts a folder first on the import path",
    ("--interface",): "applications are those of ASGI 3, and there is nothing to choose",
    ("--url-path-prefix",): "--root-path is the path that a proxy takes off",
    ("--check-config",): "`miniasgi check` looks an application over",
    # options
    ("-c", "--config"): "options are arguments, or environment variables such as MINIASGI_PORT",
    ("--env-file",): "files with environment variables are not read; set them before the start",
    # HTTP and WebSocket
    ("--http", "--http1", "--http2"): "HTTP is 1.1, by h11, and there is nothing to choose",
    ("--ws", "--no-ws"): "WebSocket is by wsproto, and there is nothing to choose",
    ("--quic-bind",): "HTTP is 1.1 alone",
    ("--proxy-headers", "--no-proxy-headers", "--proxy-headers-host", "--proxy-headers-port"): (
        "a proxy's X-Forwarded-… headers are left to the application, which finds them in the scope"
    ),
    ("--forwarded-allow-ips",): (
        "a proxy's X-Forwarded-… headers are left to the application, which finds them in the scope"
    ),
    ("--backpressure", "--worker-connections"): "--limit-concurrency limits the requests at a time",
    ("--h11-max-incomplete-event-size", "--h11-max-incomplete-size"): "--limit-head is the same",
    ("--limit-request-line",): "--limit-target is the longest path and query, --limit-head the largest head",
    ("--limit-request-fields",): "--limit-headers is the same",
    ("--limit-request-field_size", "--limit-request-field-size"): "--limit-head is the largest head",
    ("--websocket-max-message-size", "--websocket-max-size"): "--ws-max-size is the same",
    (
        "--read-timeout",
        "--h11-read-timeout",
    ): "--timeout-head, --timeout-body and --timeout-keep-alive limit it",
    ("--ping-interval", "--websocket-ping-interval"): "--ws-ping-interval is the same",
    ("--ping-timeout",): "--ws-ping-timeout is the same",
    # times
    ("--keep-alive",): "--timeout-keep-alive is the time that a connection may be idle",
    ("--graceful-timeout",): "--timeout-graceful-shutdown is the same",
    ("--timeout", "--http-timeout"): (
        "an answer may take its time; --timeout-head, --timeout-body and --timeout-keep-alive limit clients"
    ),
    # the log
    ("-v", "--verbosity"): "--log-level says how much is logged",
    ("--log-config", "--logger-class"): (
        "--log-level is all; a program that calls miniasgi.run configures the loggers as it likes"
    ),
    ("--access-logfile", "--access-log-file"): "the access log goes to stdout; --no-access-log turns it off",
    ("--access-logformat", "--access-log-fmt"): "the access log has one form; --no-access-log turns it off",
    ("--error-logfile", "--log-file"): "the log goes to stderr",
    ("--use-colors", "--no-use-colors"): "the log has no colours",
    # TLS
    ("--certfile", "--ssl-certificate"): "--ssl-certfile is the same",
    ("--keyfile",): "--ssl-keyfile is the same",
    ("--keyfile-password",): "--ssl-keyfile-password is the same",
    ("--ca-certs", "--ssl-ca"): "--ssl-ca-certs names the authorities of client certificates",
    ("--cert-reqs", "--verify-mode", "--ssl-client-verify"): "--ssl-cert-reqs says whether clients need one",
    ("--ciphers",): "--ssl-ciphers is the same",
    ("--ssl-version", "--ssl-protocol-min"): "TLS is 1.2 or 1.3, as the client can",
}
BY_OPTION = {option: text for options, text in HERE.items() for option in options}


def stands_here(argument: str) -> str:
    """What to say to who gave this argument, if it is another server's option; or nothing."""
    name = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
    text = BY_OPTION.get(name)
    return f"there is no {name}: {text}" if text else ""
