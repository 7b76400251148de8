"""--reload: a parent that keeps the sockets, and one child after another, in real processes."""

import contextlib
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
import types

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import miniasgi
from miniasgi import cli
from miniasgi.config import UsageError
from miniasgi.reload.parent import names
from miniasgi.reload.watch import Code, by_time, watched
from tests.applications import hello
from tests.conftest import ROOT

NEXT = "the next change starts it again"


def version(text, begin="", path="hello"):
    """The code of an application that answers / with this text, and other paths as tests.applications do."""
    return f"""
import asyncio, os, signal, time
from tests import applications
print("loads {text} in", os.getpid(), sorted(each for each in os.environ if each.startswith("MINIASGI_")))
{begin}

async def stubborn(scope, receive, send):
    print("is stubborn", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def app(scope, receive, send):
    if scope["path"] == "/":
        await applications.respond(send, b"{text}")
    elif scope["path"] == "/stubborn":
        await stubborn(scope, receive, send)
    else:
        await getattr(applications, scope["path"][1:])(scope, receive, send)
"""


class Project:
    """A folder with app.py. Made by the fixture `project`."""

    def __init__(self, folder, process):
        self.folder = folder
        self.process = process

    def write(self, *arguments, **options):
        (self.folder / "app.py").write_text(version(*arguments, **options))

    def serve(self, *options, **arguments):
        return self.process("app:app", "--reload", *options, cwd=self.folder, **arguments)


@pytest.fixture
def project(tmp_path, process):
    made = Project(tmp_path, process)
    made.write("one")
    return made


@pytest.fixture
def opened():
    """`opened(server, path)`: a socket that has asked for this path; closed after the test."""
    with contextlib.ExitStack() as stack:

        def connected(server, path):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return sock

        yield connected


def get(server):
    """What / answers: clients may have to wait for it, but are never refused."""
    return httpx.get(server.url, timeout=30).text


@pytest.mark.parametrize("how", ["seen by watchfiles", "looked at every 1 s"])
def test_a_change_is_served_by_the_next_interpreter(project, tmp_path_factory, how):
    """Also one that leaves the file's size and the second of its time, by which Python knows its bytecode."""
    path = str(ROOT)
    if how != "seen by watchfiles":
        absent = tmp_path_factory.mktemp("absent")
        (absent / "watchfiles.py").write_text("raise ImportError('not installed')\n")
        path = f"{absent}{os.pathsep}{path}"
    server = project.serve(env={"PYTHONPATH": path})
    assert server.wait_for(f"Reloads when a *.py file changes below {project.folder}; {how}")
    file = project.folder / "app.py"
    before = file.stat().st_mtime_ns
    assert get(server) == "one"
    project.write("two")
    second = 10**9
    os.utime(file, ns=(before, before // second * second + (before + second // 2) % second))
    server.wait_for("Reloading: app.py changed")
    assert get(server) == "two"
    assert server.stop() == 0
    loaded = re.findall(r"loads (\w+) in (\d+) (.*)", server.output)
    assert [each[0] for each in loaded] == ["one", "two"]
    assert len({server.popen.pid, *(int(each[1]) for each in loaded)}) == 3  # the parent is neither
    mine = sorted(each for each in os.environ if each.startswith("MINIASGI_"))
    assert {each[2] for each in loaded} == {
        str(mine)
    }  # the application's own processes are no children of ours
    assert server.output.count("Stopped") == 2
    assert "Traceback" not in server.output


def test_no_client_is_refused_while_the_application_is_replaced(project):
    server = project.serve("--no-access-log")
    answers, failures, stop = [], [], threading.Event()

    def client():
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    answers.append(sock.recv(1000).rpartition(b"\r\n")[2].decode())
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert get(server) == "one"
    for nth, text in ((2, "two"), (3, "three")):
        project.write(text)
        server.wait_for(" serves ", nth=nth)
        assert get(server) == text
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not any(isinstance(each, ConnectionRefusedError | TimeoutError) for each in failures)
    assert set(answers) >= {"one", "two", "three"}
    # One that was accepted, and had not asked yet, is closed: as a rule there is none.
    assert len(failures) + answers.count("") <= 4
    assert server.stop() == 0


def test_what_fails_waits_for_the_next_change_and_so_do_clients(project):
    server = project.serve()
    (project.folder / "app.py").write_text("async def app(:\n")
    assert "(exit code 2)" in server.wait_for(NEXT)
    assert "SyntaxError" in server.output
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        (project.folder / "app.py").write_text("from tests.applications import failing_startup as app\n")
        assert "(exit code 3)" in server.wait_for(NEXT, nth=2)
        project.write("broken", begin="os.kill(os.getpid(), signal.SIGSEGV)")
        assert "(SIGSEGV)" in server.wait_for(NEXT, nth=3)
        project.write("mended")
        assert waiting.recv(1000).endswith(b"mended")
    assert server.stop() == 0


def test_a_signal_ends_a_parent_without_a_child(project):
    (project.folder / "app.py").write_text("import os, sys\nsys.exit(5)\n")
    server = project.serve(announced=False)
    server.wait_for(NEXT)
    assert server.stop(signal.SIGINT) == 0
    assert "Stopped" in server.lines[-2]


def test_what_is_open_ends_in_time_and_is_named(project, opened):
    """An event stream, a WebSocket, a call that waits in receive(), one that will not be cancelled."""
    server = project.serve("--timeout-graceful-shutdown", "1")
    stream = opened(server, "/endless")
    assert stream.recv(100)
    opened(server, "/stuck")
    opened(server, "/stubborn")
    with connect(server.url.replace("http", "ws") + "/endless") as websocket:
        server.wait_for("is stuck")
        server.wait_for("is stubborn")
        project.write("two")
        server.wait_for("Reloading")
        begun = time.monotonic()
        assert get(server) == "two"
        assert time.monotonic() - begun < 10  # 1 s, 1 s to clean up, 1 s for what is left, and a start
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv()
    assert caught.value.rcvd.code == 1012
    for path in ("endless", "stuck", "stubborn"):
        assert re.search(
            f"GET /{path} from .*: still running when the server stopped; cancelled", server.output
        )
    assert re.search("GET /stubborn from .*: goes on in spite of being cancelled", server.output)
    assert "killed" not in server.output
    assert server.stop() == 0


def test_what_keeps_the_loop_from_turning_is_killed_in_time(project, opened):
    server = project.serve("--timeout-graceful-shutdown", "0", "--timeout-lifespan", "0.1")
    pid = server.wait_for("Process").partition("Process ")[2].partition(",")[0]
    opened(server, "/blocking")
    server.wait_for("asleep")
    project.write("two")
    assert get(server) == "two"
    assert f"Process {pid} is still there" in server.wait_for("s after it was asked to stop; killed")
    assert server.stop() == 0


@pytest.mark.parametrize("begins", ["importing", "starting"])
def test_a_change_while_a_child_begins_is_not_lost(project, begins):
    begin = "print('importing')\ntime.sleep(60)"
    text = (
        version("one", begin)
        if begins == "importing"
        else "from tests.applications import slow_startup as app"
    )
    (project.folder / "app.py").write_text(text)
    server = project.serve(announced=False)
    server.wait_for(begins)
    project.write("two")
    server.wait_for(" serves ")
    assert server.stop() == 0
    assert "loads two" in server.output
    assert "Traceback" not in server.output


def test_a_change_while_a_child_ends_is_not_lost(project):
    (project.folder / "app.py").write_text("""
import asyncio, os
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("ending", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    await send({"type": "lifespan.shutdown.complete"})
""")
    server = project.serve()
    project.write("two")
    server.wait_for("ending")
    project.write("three")
    (project.folder / "go").touch()
    assert get(server) == "three"
    assert server.stop() == 0


def test_a_burst_of_changes_is_one_reload(project):
    server = project.serve()
    new = project.folder / "new.txt"
    for number in range(5):
        new.write_text(f"{number = }\n")
        new.rename(project.folder / f"part{number}.py")
    told = server.wait_for("Reloading")
    assert told.endswith("part0.py, part1.py, part2.py and 2 more changed")
    server.wait_for(" serves ", nth=2)
    assert server.stop() == 0
    assert server.output.count("Reloading") == 1


def test_reload_dir_and_app_dir_say_what_is_watched(project):
    src, other = project.folder / "src", project.folder / "other"
    for each in (src, other):
        each.mkdir()
    (project.folder / "app.py").rename(src / "app.py")
    server = project.serve("--app-dir", "src", "--reload-dir", "other", "--reload-dir", "src")
    assert server.wait_for(f"below {other} or {src};")
    (project.folder / "elsewhere.py").touch()
    (other / "new.py").touch()
    server.wait_for("Reloading: other/new.py changed")
    server.wait_for(" serves ", nth=2)
    assert server.stop() == 0


# ---- signals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_one_signal(project, opened, number):
    """Ctrl+C in a terminal signals the child, too; so do programs that run others."""
    project.write("one", begin="print('begins', flush=True)")
    server = project.serve(group=0)
    client = opened(server, "/slow")
    server.wait_for("has begun")
    os.killpg(server.popen.pid, number)
    assert b"".join(iter(lambda: client.recv(1000), b"")).endswith(b"slow")
    assert server.wait() == 0
    assert server.output.count("Stopping") == 1
    assert "cancelled" not in server.output


def test_a_signal_to_the_parent_shuts_the_application_down(project):
    (project.folder / "app.py").write_text("from tests.applications import with_lifespan as app\n")
    server = project.serve()
    assert get(server) == "hello from startup"
    assert server.stop(signal.SIGINT) == 0
    assert "shut down" in server.output


def is_refused_soon(server):
    """Whether clients are refused, from a moment on: the child says that it stops, and then closes its sockets.

    Who came in between is reset.
    """
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", server.port)).close()
        except ConnectionResetError:
            continue
        except ConnectionRefusedError:
            return True
    return False


@pytest.mark.parametrize("path", ["/stuck", "/blocking"])
def test_a_second_signal_ends_at_once(project, opened, path):
    server = project.serve("--timeout-graceful-shutdown", "60")
    opened(server, path)
    server.wait_for("asleep" if path == "/blocking" else "is stuck")
    server.send_signal(signal.SIGINT)
    if path == "/stuck":
        server.wait_for("Stopping")
        assert is_refused_soon(server)
    begun = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("path", ["/hello", "/stuck", "/blocking"])
def test_a_child_ends_with_its_parent(project, opened, path):
    server = project.serve("--timeout-graceful-shutdown", "60")
    opened(server, path)
    server.wait_for({"/hello": "200", "/stuck": "is stuck", "/blocking": "asleep"}[path])
    begun = time.monotonic()
    server.popen.kill()
    assert server.wait() == -signal.SIGKILL  # and the end of the output, which the child had, too
    assert time.monotonic() - begun < 10
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_fault_of_the_watching_is_told_and_ends_both(project, tmp_path_factory):
    faulty = tmp_path_factory.mktemp("faulty")
    (faulty / "watchfiles.py").write_text(
        "import os, time\n"
        "def watch(*folders, **options):\n"
        "    while not os.path.exists('go'):\n"
        "        yield set()\n"
        "        time.sleep(0.01)\n"
        "    raise OSError('nothing to see')\n"
    )
    server = project.serve(env={"PYTHONPATH": f"{faulty}{os.pathsep}{ROOT}"})
    assert get(server) == "one"
    (project.folder / "go").touch()
    assert server.wait() == 1
    assert "OSError: nothing to see" in server.output


# ---- what cannot be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--reload-dir", "."], "--reload-dir has no effect without --reload"),
        (["--reload", "--reload-dir", "nowhere"], "there is no folder 'nowhere', which --reload-dir names"),
        (["--reload", "--app-dir", "nowhere"], "there is no folder 'nowhere', which --app-dir names"),
        (["--reload", "--host", "203.0.113.1"], "203.0.113.1 is not an address of this machine"),
        (["--reload", "--ssl-certfile", "nothing.pem"], "'nothing.pem' cannot be read"),
        (["--no-reload"], "unrecognized arguments: --no-reload"),
    ],
)
def test_what_no_change_of_code_mends_ends_the_command(capsys, options, text):
    assert cli.main(["serve", "app:app", "--port", "0", *options]) == cli.WRONG_USE
    told = capsys.readouterr().err
    assert text in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(("app", "text"), [(hello, "cannot be loaded anew"), ("a:b", "serve a:b --reload")])
def test_a_program_cannot_reload_itself(app, text):
    with pytest.raises(UsageError, match=f"{text}"):
        miniasgi.run(app, reload=True)


# ---- what is watched --------------------------------------------------------------------------------------


def test_new_changed_replaced_and_removed_code_is_a_change_and_nothing_else_is(tmp_path):
    for folder in ("pack/deep", ".git", "node_modules/a", "__pycache__", "env/lib"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "env/pyvenv.cfg").touch()
    files = [tmp_path / name for name in ("app.py", "pack/deep/part.py")]
    for each in files:
        each.write_text("x = 1\n")
    code = Code([tmp_path])
    assert code.changed() == set()
    for name in (".git/x.py", "node_modules/a/x.py", "__pycache__/x.py", "env/lib/x.py", "x.html", ".#x.py"):
        (tmp_path / name).touch()
    files[0].chmod(0o600)
    files[0].read_text()
    assert code.changed() == set()
    files[0].write_text("x = 10\n")
    assert code.changed() == {files[0]}
    new = tmp_path / "new"
    new.write_text("x = 20\n")
    os.utime(new, ns=(0, files[0].stat().st_mtime_ns))
    new.rename(files[0])
    assert code.changed() == {files[0]}
    (tmp_path / "pack").rename(tmp_path / "bag")
    moved = tmp_path / "bag/deep/part.py"
    assert code.changed() == {files[1], moved}
    moved.unlink()
    (tmp_path / "link.py").symlink_to("nothing")
    assert code.changed() == {moved}


def test_where_watchfiles_cannot_watch_it_is_done_without(tmp_path, monkeypatch):
    def watch(*folders, **options):
        raise OSError("OS file watch limit reached")
        yield

    monkeypatch.setitem(sys.modules, "watchfiles", types.SimpleNamespace(watch=watch))
    told = queue.SimpleQueue()
    with watched([tmp_path], told.put) as how:
        assert how == "looked at every 1 s, for watchfiles fails: OS file watch limit reached"
        (tmp_path / "new.py").touch()
        assert told.get(timeout=30) == {tmp_path / "new.py"}


def test_looking_takes_a_tenth_of_the_time_at_most(monkeypatch):
    now, pauses = [0.0], []

    class Stop:
        def wait(self, pause):
            pauses.append(pause)
            return len(pauses) == 4

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    looks = by_time(Stop())
    for took in (0.0625, 2.0, 0.5):
        assert next(looks)
        now[0] += took
    assert next(looks, None) is None
    assert pauses == [0, 1, 18, 4.5]


def test_files_are_named_as_seen_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {tmp_path / "b.py", tmp_path / "a" / "c.py"}
    assert names(paths) == f"a{os.sep}c.py, b.py"
    assert names({tmp_path.parent / "x.py"}) == str(tmp_path.parent / "x.py")
