"""The command line: its words and exit codes."""

import re
import subprocess
import sys

import pytest

from miniasgi import __version__, cli, other_servers
from miniasgi.config import as_argument, make_config, spelling
from tests.conftest import ROOT


@pytest.fixture
def command(capsys, monkeypatch):
    """`code, out, err = command("serve", …)`: the command line in this process, for what ends by itself."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("arguments", [("--version",), ("serve", "--version")])
def test_version(command, arguments):
    assert command(*arguments) == (0, f"miniasgi {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("serve",), "the following arguments are required: APP"),
        ((), "the following arguments are required: COMMAND"),
        (("serve", "tests.applications"), "module:attribute, such as 'tests.applications:app'"),
        (("serve", "tests.aplications:hello"), "no module 'tests.aplications'"),
        (("serve", "tests.applications:helo"), "no attribute 'helo'; did you mean 'hello'"),
        (("serve", "tests.applications:not_callable"), "an int, which cannot be called"),
        (("serve", "tests/nothing.py:app"), "there is no file tests/nothing.py"),
        (("serve", "tests.applications:hello", "--port", "x"), "--port is a whole number, not 'x'"),
        (
            ("serve", "tests.applications:hello", "--port"),
            "--port: expected one argument; see miniasgi serve --help",
        ),
        (
            ("serve", "tests.applications:hello", "--timeout-head", "0"),
            "--timeout-head is at least 0.1, not 0",
        ),
        (("serve", "tests.applications:hello", "--workers", "4"), "there is no --workers: it is one process"),
        (("serve", "--workers=4", "tests.applications:hello"), "there is no --workers: it is one process"),
        (("serve", "tests.applications:hello", "-b", ":80"), "there is no -b: --host and --port say where"),
        (("serve", "tests.applications:hello", "-w4"), "there is no -w: it is one process"),
        (
            ("serve", "tests.applications:hello", "--xyz"),
            "unrecognized arguments: --xyz; see miniasgi serve --help",
        ),
        (("serve", "tests.applications:hello", "--no-acess-log"), "did you mean '--no-access-log'"),
        (("check", "tests.applications:hello", "--workers", "4"), "--workers 4; see miniasgi check --help"),
        (
            ("tests.applications:hello",),
            "a command comes first; did you mean `miniasgi serve tests.applications:hello",
        ),
        (("examples/chat.py",), "did you mean `miniasgi serve examples/chat.py"),
        (("--port", "80", "serve", "a:b"), "did you mean `miniasgi serve --port 80 a:b`?"),
        (("srve", "a:b"), "there is no command 'srve'; did you mean 'serve'?"),
        (("start", "a:b"), "there is no command 'start'; the commands are serve, check and show"),
        (("serve", "tests.applications:hello", "--port", "65536"), "--port is at most 65535"),
        (
            ("serve", "tests.applications:hello", "--lifespan", "maybe"),
            "--lifespan is one of auto, on, off, not 'maybe'",
        ),
        (("serve", "tests.applications:hello", "--prot", "1"), "--prot 1; did you mean '--port'"),
        (("serve", "tests.applications:hello", "--host", ""), "--host is an address or a name"),
        (
            ("serve", "tests.applications:hello", "--app-dir", "/no/folder"),
            "there is no folder '/no/folder', which --app-dir",
        ),
        (("serve", "tests.applications:hello", "--host", "203.0.113.1"), "not an address of this machine"),
        (("serve", "tests.applications:hello", "--host", "no such host"), "no address and no known name"),
        (("serve", "tests.nothing:app", "--ssl-certfile", "/no/file"), "'/no/file' cannot be read"),
        (
            ("serve", "tests.nothing:app", "--ssl-keyfile", "key.pem"),
            "--ssl-keyfile has no effect without --ssl-certfile",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command, monkeypatch, arguments, text):
    monkeypatch.chdir(ROOT)
    if arguments[:1] == ("serve",) and arguments[1:]:
        arguments = (*arguments, "--port", "0") if "--port" not in arguments else arguments
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("miniasgi: ")
    assert err.count("\n") == 1
    assert text in err


def test_a_port_in_use_is_one_line(command, monkeypatch):
    import socket

    monkeypatch.chdir(ROOT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = command("serve", "tests.applications:hello", "--port", str(port))
    assert code == 2
    assert (
        err
        == f"miniasgi: port {port} of 127.0.0.1 is in use; stop its user, or take another --port (0: any free one)\n"
    )


def test_a_syntax_error_is_shown_from_the_applications_own_file_on(command, tmp_path):
    (tmp_path / "broken.py").write_text("async def app(:\n    pass\n")
    code, out, err = command("serve", f"{tmp_path}/broken.py:app", "--port", "0")
    assert code == 2
    assert err.splitlines()[0] == f'  File "{tmp_path}/broken.py", line 1'
    assert err.splitlines()[-1].startswith(f"miniasgi: {tmp_path}/broken.py cannot be imported: SyntaxError")
    assert "miniasgi/" not in err


def test_an_environment_variable_sets_an_option_and_the_command_line_goes_before_it(monkeypatch):
    monkeypatch.setenv("MINIASGI_PORT", "99")
    monkeypatch.setenv("MINIASGI_ACCESS_LOG", "no")
    monkeypatch.setenv("MINIASGI_TIMEOUT_HEAD", "1.5")
    monkeypatch.setenv("MINIASGI_LOOP", "asyncio")
    served = []
    monkeypatch.setattr(cli, "run", lambda app, **options: served.append(make_config(options)))
    assert cli.main(["serve", "tests.applications:hello"]) == 0
    assert cli.main(["serve", "tests.applications:hello", "--port", "7", "--access-log"]) == 0
    assert (served[0].port, served[0].access_log, served[0].timeout_head) == (99, False, 1.5)
    assert (served[1].port, served[1].access_log, served[1].loop) == (7, True, "asyncio")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MINIASGI_PORT", "x", "MINIASGI_PORT is a whole number, not 'x'"),
        ("MINIASGI_ACCESS_LOG", "x", "MINIASGI_ACCESS_LOG is yes or no, not 'x'"),
        ("MINIASGI_TIMEOUT_HEAD", "x", "MINIASGI_TIMEOUT_HEAD is a number, not 'x'"),
        ("MINIASGI_TIMEOUT_HEAD", "0", "MINIASGI_TIMEOUT_HEAD is at least 0.1, not 0"),
        ("MINIASGI_LOOP", "x", "MINIASGI_LOOP is one of auto, asyncio, uvloop, not 'x'"),
    ],
)
def test_an_environment_variable_that_cannot_be_read_is_one_line(command, monkeypatch, name, value, text):
    monkeypatch.setenv(name, value)
    code, out, err = command("serve", "tests.applications:hello")
    assert (code, err) == (2, f"miniasgi: {text}\n")


def test_a_variable_that_is_nearly_an_option_is_told_and_no_other(command, monkeypatch):
    monkeypatch.setattr(cli, "run", lambda app, **options: None)
    for name in ("MINIASGI_PROT", "MINIASGI_HOME", "MINIASGI_TESTS_NEED_ALL", "PROT", "MINIASGI_PORT"):
        monkeypatch.setenv(name, "1")
    told = "miniasgi: MINIASGI_PROT sets no option; did you mean MINIASGI_PORT?\n"
    assert command("serve", "tests.applications:hello") == (0, "", told)


def test_an_error_names_each_option_as_it_was_set(command, monkeypatch):
    monkeypatch.setenv("MINIASGI_SSL_CERTFILE", "a.pem")
    monkeypatch.setenv("MINIASGI_SSL_CERT_REQS", "required")
    told = "miniasgi: MINIASGI_SSL_CERT_REQS=required needs --ssl-ca-certs, the authorities of client certificates\n"
    assert command("serve", "tests.applications:hello") == (2, "", told)
    told = told.replace("MINIASGI_SSL_CERT_REQS=required", "--ssl-cert-reqs optional")
    assert command("serve", "tests.applications:hello", "--ssl-cert-reqs", "optional") == (2, "", told)
    monkeypatch.setenv("MINIASGI_FACTORY", "yes")
    _, _, told = command("check", "tests.applications:not_callable")
    assert (
        told
        == "miniasgi: tests.applications:not_callable is an int, not a factory; leave out MINIASGI_FACTORY=yes?\n"
    )
    assert as_argument("port", None) == spelling.get()("port", None)  # and afterwards as a program says it


def test_options_of_other_servers_are_none_of_ours_and_lead_to_ours(command):
    _, told, _ = command("serve", "--help")
    ours = set(re.findall(r"--[a-z-]+", told))
    for name, text in other_servers.BY_OPTION.items():
        assert name not in ours
        assert set(re.findall(r"--[a-z-]+", text)) <= ours


def test_words_may_be_in_capitals(monkeypatch):
    monkeypatch.setenv("MINIASGI_LOOP", "ASYNCIO")
    served = []
    monkeypatch.setattr(cli, "run", lambda app, **options: served.append(make_config(options)))
    assert cli.main(["serve", "tests.applications:hello", "--log-level", "INFO"]) == 0
    assert (served[0].log_level, served[0].loop) == ("info", "asyncio")


def test_a_log_that_cannot_be_written_ends_with_one_line(process, tmp_path):
    import httpx

    server = process("tests.applications:hello", shell=">/dev/full")
    for _ in range(3):
        assert httpx.get(server.url).text == "hello"
    assert server.stop() == 0
    assert server.output.count("The log to <stdout> ends here: No space left on device") == 1
    assert "Traceback" not in server.output
    assert "Logging error" not in server.output


def test_python_m_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "miniasgi", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout == f"miniasgi {__version__}\n"


def test_uvloop_that_is_not_installed_is_one_line(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    code, out, err = command("serve", "tests.applications:hello", "--port", "0", "--loop", "uvloop")
    assert code == 2
    assert err.endswith("--loop uvloop needs uvloop: pip install uvloop\n")


def test_the_start_lines_say_what_is_served_where_as_which_process_and_how_to_stop(process):
    server = process("tests.applications:hello", "--loop", "asyncio")
    told = server.output
    assert f"serves tests.applications:hello on http://127.0.0.1:{server.port}" in told
    assert f"Process {server.popen.pid}, Python 3." in told
    assert "asyncio; Ctrl+C or SIGTERM stops it" in told
    assert server.stop() == 0


@pytest.mark.parametrize("lines", [True, False])
def test_the_access_log_has_one_line_a_request(process, lines):
    import httpx

    server = process("tests.applications:hello", "--access-log" if lines else "--no-access-log")
    httpx.get(server.url + "/path?query")
    server.stop()
    pattern = r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 127\.0\.0\.1:\d+ "GET /path\?query HTTP/1\.1" 200 5 \d+\.\dms'
    assert bool(re.search(f"^{pattern}$", server.output, re.MULTILINE)) == lines
    assert server.output.count("/path") == lines


@pytest.mark.parametrize(
    ("app", "text"),
    [
        ("failing_startup", "RuntimeError: no database"),
        ("refusing_startup", "startup failed: no cache"),
    ],
)
def test_a_startup_that_fails_is_exit_code_3(process, app, text):
    server = process(f"tests.applications:{app}", announced=False)
    assert server.wait() == 3
    assert text in server.output
    assert "serves" not in server.output


def test_a_factory_a_file_and_an_app_dir(process):
    import httpx

    for arguments in (
        ("tests.applications:make", "--factory"),
        ("tests/applications.py:hello",),
        ("applications:hello", "--app-dir", "tests"),
    ):
        server = process(*arguments)
        assert httpx.get(server.url).text == "hello"
        assert server.stop() == 0


def test_the_root_path_reaches_the_application(process):
    import httpx

    server = process("tests.applications:describe", "--root-path", "/api")
    scope = httpx.get(server.url + "/users").json()
    assert (scope["root_path"], scope["path"]) == ("'/api'", "'/api/users'")


def test_the_log_level_hides_what_is_below_it(process):
    server = process("tests.applications:hello", "--log-level", "warning", announced=False)
    with pytest.raises(AssertionError, match="no 'serves'"):
        server.wait_for("serves", timeout=2)
    server.stop()
    assert server.output.strip() == ""


def test_nothing_is_imported_that_serving_has_no_use_for():
    unused = [
        "miniasgi.check",
        "miniasgi.show",
        "miniasgi.inspector",
        "miniasgi.testing",
        "uvloop",
        "html",
        "email",
        "platform",
        "unicodedata",
        "shutil",
        "miniasgi.reload.parent",
        "wsproto",
    ]
    code = (
        "import sys; from miniasgi.cli import parse_arguments; parse_arguments(['serve', 'app:app']); "
        "from miniasgi.listen import open_sockets; open_sockets('127.0.0.1', 0)[0].close(); "
        f"print([name for name in {unused} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("[]\n", "")
