"""`miniasgi check`: what it says of sound applications and of each fault, its exit codes, its look."""

import os
import re
import subprocess
import sys

import pytest

from miniasgi import cli
from miniasgi.check import NOT_STARTED, SOUND, WRONG_FOUND, Line, Mark, check
from miniasgi.config import UsageError
from miniasgi.loading import LoadError
from tests import check_applications as applications
from tests.conftest import ROOT

DJANGO = ROOT / "examples" / "django_channels"
SHORT = 1.5  # for what hangs, in seconds: all else has to be done in it on a slow machine, too
GOOD, FACT, ADVICE, WRONG = Mark.GOOD, Mark.FACT, Mark.ADVICE, Mark.WRONG


class Checked:
    """What `check` returned, and the lines that it told."""

    def __init__(self, name, **options):
        self.lines = []
        self.code = check(f"tests.check_applications:{name}", self.lines.append, **options)
        self.summary = self.lines.pop().text

    def the(self, mark, about, text=""):
        """The only line of this kind about this step."""
        found = [
            line for line in self.lines if (line.mark, line.about) == (mark, about) and text in line.text
        ]
        assert len(found) == 1, self.lines
        return found[0]

    def all(self, mark):
        return [line for line in self.lines if line.mark is mark]

    @property
    def only_fault(self):
        assert self.code == WRONG_FOUND, self.lines
        assert len(self.all(WRONG)) == 1, self.lines
        return self.all(WRONG)[0]


@pytest.fixture
def checked(monkeypatch):
    """`checked("name", path=…)`: check an application of tests/check_applications.py in this process."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PWD", str(ROOT))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Checked


def command(*arguments, cwd=ROOT, **env):
    """`code, output = command("module:app", …)`: the real command."""
    run = [sys.executable, "-m", "miniasgi", "check", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run(run, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


# ---- sound applications ----


def test_a_sound_application_is_told_by_its_parts(checked):
    told = checked("sound")
    assert told.code == SOUND, told.lines
    assert [(line.mark, line.about) for line in told.lines] == [
        (GOOD, "application"),
        (GOOD, "lifespan"),
        (GOOD, "GET /"),
        (GOOD, "WebSocket /"),
        (GOOD, "lifespan"),
    ]
    application, startup, get, websocket, shutdown = (line.text for line in told.lines)
    assert re.fullmatch(
        r"an async function, app \(tests/check_applications.py, line \d+\), loaded in .* m?s", application
    )
    assert re.fullmatch(r"supported: started in [\d.]+ m?s", startup)
    assert re.fullmatch(r"200, text/plain, 5 bytes in [\d.]+ m?s; 2 messages sent", get)
    assert re.fullmatch(r"supported: accepted in [\d.]+ m?s", websocket)
    assert re.fullmatch(r"shut down in [\d.]+ m?s", shutdown)
    assert told.summary == "Nothing is wrong.\nTo serve it: miniasgi serve tests.check_applications:sound"


def test_what_raises_on_a_scope_does_not_support_it(checked):
    told = checked("only_http")
    assert told.code == SOUND, told.lines
    assert told.the(FACT, "lifespan").text == "not supported: raised ValueError: no lifespan here"
    line = told.the(FACT, "WebSocket /")
    assert line.text == "not supported: raised ValueError: no websocket here"
    assert "in app: raise ValueError" in line.details[0]


@pytest.mark.parametrize("name", ["starlette", "fastapi"])
def test_starlette_and_fastapi_are_sound(checked, name):
    told = checked(name, factory=True)
    assert told.code == SOUND, told.lines
    assert f"an instance of {name}." in told.the(GOOD, "application").text
    assert f"made by the factory tests.check_applications:{name}" in told.the(GOOD, "application").text
    assert "--factory" in told.summary
    handshake = {"starlette": "accepted", "fastapi": "denied with 403"}[name]
    assert handshake in told.the(GOOD, "WebSocket /").text
    # Starlette's receive_text() raises when the client leaves, and the application lets that pass.
    assert not told.all(ADVICE)


EXAMPLES = ["django_channels", *sorted(path.name for path in (ROOT / "examples").glob("*.py"))]
# What an example is to be asked for, where it has more than one page. Streaming's /poll waits for news.
OWN_PATHS = {
    "streaming.py": ("/", "/events", "/echo", "/tell"),
    "extensions.py": ("/", "/style.css", "/source", "/part", "/sum", "/nothing"),
    "django_channels": ("/", "/room/a/", "/ws/echo/", "/ws/room/a/"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_wrong_in_an_example(name, tmp_path):
    target, folder = f"{name}:app", ROOT / "examples"
    if name == "django_channels":
        target, folder = "project.asgi:application", DJANGO
    paths = [word for path in OWN_PATHS.get(name, ()) for word in ("--path", path)]
    environment = {"DATABASE": str(tmp_path / "db.sqlite3"), "PWD": str(folder)}
    code, output = command(target, *paths, cwd=folder, **environment)
    assert code == 0, output
    assert "\nNothing is wrong" in output
    assert "500" not in output


def test_django_with_channels_is_sound_and_its_headers_in_upper_case_are_advice(tmp_path):
    environment = {"DATABASE": str(tmp_path / "db.sqlite3")}
    code, output = command(
        "project.asgi:application", "--path", "/room/a/", "--path", "/ws/echo/", cwd=DJANGO, **environment
    )
    assert code == 0, output
    assert "-       lifespan             not supported: raised ValueError" in output
    assert "ok      GET /room/a/         200, text/html; charset=utf-8" in output
    assert "ok      GET /ws/echo/        404" in output
    assert "ok      WebSocket /ws/echo/  supported: accepted" in output
    assert "b'Content-Type' among its headers" in output
    assert "(not by your own code)" in output
    assert "Nothing is wrong; 1 piece of advice." in output


def test_django_alone_refuses_websockets_and_is_sound(tmp_path):
    code, output = command("project.asgi:django_application", cwd=DJANGO)
    assert code == 0, output
    assert "WebSocket /  not supported: raised ValueError: Django can only handle ASGI/HTTP" in output


def test_each_path_is_asked_for(checked):
    told = checked("statuses", paths=["/200", "/302", "/404"])
    assert told.code == SOUND, told.lines
    statuses = [told.the(GOOD, f"GET /{status}").text[:3] for status in (200, 302, 404)]
    assert statuses == ["200", "302", "404"]


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (302, "to ask for where it leads: --path '/login?next=/'"),
        (400, "is a request for the host 127.0.0.1 refused? Django has its names in ALLOWED_HOSTS"),
        (401, "to ask for another path: --path /…, one that is open to everybody"),
        (403, "to ask for another path: --path /…, one that is open to everybody"),
        (404, "to ask for another path: --path /…"),
        (405, "to ask for another path: --path /…"),
    ],
)
def test_it_is_told_how_to_ask_for_more_than_a_refusal(checked, status, hint):
    assert checked("statuses", paths=[f"/{status}"]).the(GOOD, f"GET /{status}").details == (hint,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("denying", "denied with 403 in .* (closed before it was accepted)"),
        ("denying_by_response", "denied with 401 in .* (by a response of its own)"),
    ],
)
def test_a_denied_handshake_is_no_fault(checked, name, text):
    told = checked(name)
    assert told.code == SOUND, told.lines
    assert re.search(text.replace("(", r"\(").replace(")", r"\)"), told.the(GOOD, "WebSocket /").text)


def test_an_event_stream_is_left_once_it_is_known_to_be_one(checked):
    told = checked("streaming", timeout=60)
    assert told.code == SOUND, told.lines
    assert "200, text/event-stream, a stream: 9 bytes so far" in told.the(GOOD, "GET /").text


# ---- wrong messages ----


@pytest.mark.parametrize("name", ["wrong_type", "swallowed"])
def test_each_wrong_message_is_told_once_with_its_line(checked, name):
    line = checked(name).only_fault
    assert line.about == "GET /"
    assert any(
        re.match(r"sent by +tests/check_applications.py, line \d+, in s", each) for each in line.details
    )


@pytest.mark.parametrize(
    ("name", "about", "call"),
    [
        ("without_await", "GET /", "send"),
        ("without_await_of_its_own", "GET /", "nothing"),
        ("without_await_in_a_ring", "GET /", "nothing"),
        ("without_await_of_a_library", "GET /", "sleep"),
        ("without_await_in_a_thread", "GET /", "nothing"),
        ("without_await_at_startup", "lifespan", "nothing"),
        ("without_await_kept_to_the_end", "lifespan", "nothing"),
    ],
)
def test_a_call_without_await_is_told_with_the_line_that_called(checked, name, about, call):
    line = checked(name).only_fault
    assert line.about == about
    assert re.match(
        rf"tests/check_applications.py, line \d+: {call}\(\) was called without `await`", line.text
    )


def test_a_coroutine_that_only_a_told_error_kept_is_told_in_the_same_step(checked):
    told = checked("run_inside")
    text, of_coroutine = (line.text for line in told.all(WRONG))
    assert text.endswith("RuntimeError: asyncio.run() cannot be called from a running event loop")
    assert "nothing() was called without `await`" in of_coroutine
    assert [line.about for line in told.all(WRONG)] == ["GET /", "GET /"]
    assert told.all(WRONG)[0].details[0].endswith("in run_a_loop: asyncio.run(nothing())")


def test_a_message_after_the_answer_is_told(checked):
    line = checked("late_message").only_fault
    assert line.text.startswith("ignored a message of the application: http.response.body was sent after")


def test_what_the_server_says_of_an_error_is_told_with_its_line(checked):
    line = checked("sending_after_close").only_fault
    assert line.text == "websocket.send was sent after the application had closed the WebSocket"
    assert any("sent by" in each and "in send_after_close" in each for each in line.details)


def test_advice_that_the_server_gives_too_is_told_once(checked):
    told = checked("misspelling")
    assert told.code == SOUND, told.lines
    assert "the key 'boddy'" in told.the(ADVICE, "GET /").text


def test_what_is_returned_in_place_of_an_answer_is_told(checked):
    assert "it returned 'hello', which nobody reads" in checked("returning_the_answer").only_fault.text


def test_an_application_that_cannot_be_called_is_told_with_each_request(checked):
    told = checked("not_async")
    assert told.the(FACT, "lifespan").text == "it could not be called"
    assert [line.about for line in told.all(WRONG)] == ["lifespan", "GET /", "WebSocket /"]
    assert "is the application declared with `def`" in told.the(WRONG, "GET /").text.lower()


def test_advice_does_not_fail_the_check(checked):
    told = checked("upper_case_headers")
    assert told.code == SOUND, told.lines
    line = told.the(ADVICE, "GET /")
    assert "b'Content-Type' among its headers" in line.text
    assert "not by your own code" not in line.text
    assert "tests/check_applications.py" in line.details[0]
    assert told.summary.startswith("Nothing is wrong; 1 piece of advice.")


def test_an_answer_over_http_to_a_websocket_is_wrong_and_told_with_what_to_do(checked):
    told = checked("unaware")
    line = told.only_fault
    assert line.about == "WebSocket /"
    assert line.text.startswith("http.response.start was sent, but scope['type'] is 'websocket' here")
    assert "a WebSocket is denied by websocket.close" in line.details[-1]
    assert told.the(FACT, "lifespan").text == "not supported: sent http.response.start"
    assert "it does not look at scope['type']" in told.the(ADVICE, "lifespan").text
    # Where it answers no lifespan so, it does look.
    told = checked("http_to_websockets")
    assert told.only_fault.details[-1] == line.details[-1]
    assert not told.all(ADVICE)


def test_a_websocket_message_to_a_request_is_told_with_what_to_do(checked):
    line = checked("websockets_to_http").only_fault
    assert line.about == "GET /"
    assert "a request is answered by http.response.start" in line.details[-1]


def test_a_key_of_another_scopes_shows_that_its_type_was_not_looked_at(checked):
    told = checked("looks_for_method")
    assert told.code == SOUND, told.lines
    for about, kind in (("lifespan", "lifespan"), ("WebSocket /", "websocket")):
        assert told.the(FACT, about).text == "not supported: raised KeyError: 'method'"
        assert told.the(ADVICE, about).text.startswith(f"a {kind} scope has no 'method'")


# ---- refused, or broken ----


@pytest.mark.parametrize("name", vars(applications.REFUSALS))
def test_what_is_written_to_refuse_a_scope_is_no_fault(checked, name):
    told = checked(f"REFUSALS.{name}")
    assert told.code == SOUND, told.lines
    for about in ("lifespan", "WebSocket /"):
        assert told.the(FACT, about).text.startswith("not supported: ")
    assert not told.all(ADVICE)


@pytest.mark.parametrize("name", vars(applications.BROKEN_WEBSOCKETS))
def test_a_bug_at_the_begin_of_a_websocket_is_wrong(checked, name):
    line = checked(f"BROKEN_WEBSOCKETS.{name}").only_fault
    assert line.about == "WebSocket /"
    assert any("tests/check_applications.py, line " in each for each in line.details), line


@pytest.mark.parametrize("name", vars(applications.BROKEN_LIFESPANS))
def test_a_bug_in_a_lifespan_is_wrong_though_the_application_is_served(checked, name):
    line = checked(f"BROKEN_LIFESPANS.{name}").only_fault
    assert line.about == "lifespan"


def test_a_path_without_a_route_is_not_taken_for_a_missing_protocol(checked):
    told = checked("without_route", factory=True)
    assert told.code == SOUND, told.lines
    line = told.the(FACT, "WebSocket /")
    assert line.text == "not supported: raised ValueError: No route found for path ''."
    assert line.details[-1] == "to ask for another path: --path /…"
    assert checked("without_route", factory=True, paths=["/here"]).the(GOOD, "WebSocket /here")


def test_an_application_that_refuses_everything_is_wrong(checked):
    line = checked("refusing_all").only_fault
    assert (line.about, line.text) == (
        "application",
        "it supports neither HTTP nor WebSocket, asked for /",
    )


# ---- wrong answers ----


def test_an_exception_is_told_once_with_its_line(checked):
    told = checked("raising")
    assert told.the(FACT, "GET /").text.startswith("500, text/plain")
    line = told.only_fault
    assert line.text == "the application raised: KeyError: 'token'"
    assert "in fail: raise KeyError" in line.details[0]


def test_an_exception_in_a_websocket_is_told(checked):
    line = checked("failing_websocket").only_fault
    assert (line.about, line.text) == ("WebSocket /", "the application raised: KeyError: 'token'")


def test_a_request_without_an_answer_is_told(checked):
    told = checked("unanswered")
    assert "returned without an answer" in told.the(WRONG, "GET /").text
    assert "returned without an answer" in told.the(WRONG, "WebSocket /").text
    assert told.summary.startswith("2 things are wrong (GET /, WebSocket /).")


def test_an_answer_of_500_is_wrong_though_nothing_was_raised(checked):
    assert checked("statuses").only_fault.text.startswith("500, ")


@pytest.mark.parametrize(
    ("name", "waiting"),
    [
        ("hanging", "in forever: await asyncio.Event().wait()"),
        ("hanging_in_a_task", "in forever: await asyncio.Event().wait()"),
        ("hanging_in_a_generator", "in forever: await asyncio.Event().wait()"),
    ],
)
def test_a_request_that_hangs_is_told_with_where_it_waits(checked, name, waiting):
    line = checked(name, timeout=SHORT).only_fault
    assert line.text == "no answer within 1.5 s"
    assert any(each.startswith("waits in") and each.endswith(waiting) for each in line.details), line


def test_a_handshake_that_hangs_and_half_an_answer_are_told(checked):
    line = checked("hanging_handshake", timeout=SHORT).only_fault
    assert (line.about, line.text) == ("WebSocket /", "no answer to the handshake within 1.5 s")
    assert (
        "200, no content-type, but not the whole answer"
        in checked("half_answered", timeout=SHORT).only_fault.text
    )


# ---- startup and shutdown ----


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        (
            "failing_startup",
            "the application raised during startup: RuntimeError: no database",
            "break_down",
        ),
        ("hanging_startup", "the startup was not complete within 1.5 s", "forever"),
    ],
)
def test_nothing_is_asked_of_an_application_that_does_not_start(checked, name, text, place):
    told = checked(name, timeout=SHORT)
    assert told.code == NOT_STARTED
    [line] = told.all(WRONG)
    assert (line.about, line.text) == ("lifespan", text)
    assert f"in {place}" in line.details[0]
    assert "GET /" not in [line.about for line in told.lines]


def test_a_traceback_that_starlette_gives_as_the_reason_is_told_as_the_error_and_its_line(checked):
    told = checked("starlette_failing_startup", factory=True)
    assert told.code == NOT_STARTED
    [line] = told.all(WRONG)
    assert line.text == "the application's startup failed: RuntimeError: no database"
    assert line.details[0].endswith('in break_down: raise RuntimeError("no database")')
    line = checked("starlette_failing_shutdown", factory=True).only_fault
    assert line.text == "The application's shutdown failed: RuntimeError: no database"
    assert line.details[0].endswith('in break_down: raise RuntimeError("no database")')


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("failing_shutdown", "RuntimeError: no database", "break_down"),
        ("hanging_shutdown", "the shutdown was not complete within 1.5 s", "forever"),
    ],
)
def test_a_shutdown_that_fails_or_hangs_is_wrong(checked, name, text, place):
    line = checked(name, timeout=SHORT).only_fault
    assert line.about == "lifespan"
    assert text in line.text
    assert f"in {place}" in line.details[0]


# ---- what blocks ----


def test_a_blocking_call_is_told_with_its_line_and_how_long(checked):
    line = checked("blocking").only_fault
    assert line.about == "GET /"
    assert re.match(r"kept the loop from turning for \d+ ms: ", line.text)
    assert line.details[0].endswith("in sleep: time.sleep(0.3)")


def test_a_blocking_startup_is_advice_because_nobody_waits_for_it(checked):
    told = checked("blocking_startup")
    assert told.code == SOUND, told.lines
    assert told.the(ADVICE, "lifespan").details[0].endswith("in sleep: time.sleep(0.3)")


@pytest.mark.parametrize(
    ("name", "code", "place"),
    [
        ("stuck", 1, "in never_come_back: "),
        ("stuck_startup", 3, "in never_come_back: "),
        ("holding_on", 1, "in never_come_back: "),  # once it is cancelled
        ("hanging_thread", 1, "thread asyncio_0 is in "),  # which Python would wait for at its end
    ],
)
def test_an_application_that_never_gives_its_thread_back_ends_the_command_with_its_line(name, code, place):
    exit_code, output = command(f"tests.check_applications:{name}", "--timeout", "1.5")
    assert exit_code == code, output
    assert "within 1.5 s" in output
    assert place in output
    assert "1 thing is wrong" in output


def test_a_module_that_never_ends_to_load_ends_the_command_with_its_line(tmp_path):
    (tmp_path / "endless.py").write_text("while True:\n    pass\n")
    code, output = command(f"{tmp_path}/endless.py:app", "--timeout", "1.5")
    assert code == 2, output
    assert "WRONG   application  it did not come back within 1.5 s" in output
    assert "endless.py, line " in output


@pytest.mark.parametrize("name", ["sound", "only_http", "streaming", "statuses"])
def test_what_does_not_block_is_not_told_to_do_so(checked, name):
    told = checked(name, paths=["/200"] * 5)
    assert not any("kept the loop" in line.text for line in told.lines), told.lines


def test_an_import_in_a_view_is_advice_with_the_line_that_imports(checked, tmp_path, monkeypatch):
    (tmp_path / "slow_to_load.py").write_text("import time\ntime.sleep(0.3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = checked("importing")
    del sys.modules["slow_to_load"]
    assert told.code == SOUND, told.lines
    line = told.the(ADVICE, "GET /")
    assert "an import, which takes time only once" in line.text
    assert line.details[0].endswith("in import_late: import slow_to_load")


# ---- what ends the process or the loop ----


@pytest.mark.parametrize(
    ("name", "code", "place"),
    [("exiting", 1, "in leave: os._exit(0)"), ("exiting_at_startup", 3, "in leave: os._exit(0)")],
)
def test_an_application_that_ends_the_process_is_told_with_its_line(name, code, place):
    exit_code, output = command(f"tests.check_applications:{name}")
    assert exit_code == code, output
    assert "it ended the process by os._exit(0)" in output
    assert place in output
    assert "1 thing is wrong" in output


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("import os; os._exit(0)", "it ended the process by os._exit(0)"),
        ("import sys; sys.exit(0)", "cannot be imported: SystemExit: 0"),
    ],
)
def test_a_module_that_ends_the_process_cannot_be_loaded(tmp_path, statement, text):
    (tmp_path / "ending.py").write_text(f"{statement}\n")
    code, output = command(f"{tmp_path}/ending.py:app")
    assert code == 2, output
    assert text in output
    assert "ending.py" in output
    assert "line 1" in output


def test_a_sys_exit_in_a_task_is_told_with_its_line_and_the_check_goes_on(checked):
    told = checked("exiting_in_a_task")
    line = told.only_fault
    assert line.about == "GET /"
    assert line.text == "a task or a callback would have ended the server: SystemExit: 0"
    assert line.details[0].endswith("in exit_by_sys: sys.exit(0)")
    assert told.the(FACT, "WebSocket /")


def test_an_application_that_stops_the_loop_is_told_and_the_check_goes_on(checked):
    told = checked("stopping_the_loop")
    assert told.only_fault.text == "the application stopped the event loop, and so the server"
    assert told.only_fault.about == "GET /"
    assert told.the(FACT, "WebSocket /")


def test_a_sys_exit_while_tasks_are_cancelled_is_told_and_does_not_change_the_exit_code():
    code, output = command("tests.check_applications:exiting_when_cancelled")
    assert code == 1, output
    assert "a task or a callback would have ended the server: SystemExit: 0" in output
    assert output.count("WRONG") == 2, output  # the other is that it was left behind
    assert "Traceback" not in output


def test_a_child_process_may_end_itself():
    code, output = command("tests.check_applications:forking")
    assert code == 0, output


# ---- what is left behind ----


def test_a_task_that_outlives_the_shutdown_is_told_with_who_started_it_and_where_it_waits(checked):
    line = checked("left_task").only_fault
    assert line.about == "lifespan"
    task, started, waiting = line.details
    assert task == "task forever, named keeper"
    assert re.match(r"started by tests/check_applications.py, line \d+, in keep_running", started)
    assert waiting.endswith("in forever: await asyncio.Event().wait()")


def test_a_task_that_ends_with_the_shutdown_is_fine(checked):
    told = checked("ended_task")
    assert (told.code, told.all(ADVICE)) == (SOUND, [])


def test_what_fails_while_the_loop_is_being_closed_is_told_with_its_line(checked):
    told = checked("failing_clean_up")
    line = told.the(WRONG, "lifespan", "asynchronous generator")
    assert line.text.endswith("RuntimeError: no database")
    assert "in break_down" in line.details[0]


def test_a_thread_left_behind_is_advice_with_its_name_and_its_line():
    code, output = command("tests.check_applications:left_thread")
    assert code == 0, output
    assert "advice  lifespan     a thread still runs, for which the process would wait at its end" in output
    assert "thread waiter is in " in output


def test_a_task_of_a_request_may_be_meant_to_run_on(checked):
    told = checked("task_of_a_request")
    assert told.code == SOUND, told.lines
    assert told.the(ADVICE, "GET /").details[0] == "task forever"


def test_a_task_whose_failure_nobody_took_is_told(checked):
    line = checked("failed_task").only_fault
    assert line.text == "Task exception was never retrieved: RuntimeError: no database"
    assert "in break_down" in line.details[0]


# ---- the closing words ----


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "raising",
            [
                "1 thing is wrong (GET /).",
                "To see a failed request whole, look at it in a browser: {} --debug",
            ],
        ),
        ("failing_websocket", ["1 thing is wrong (WebSocket /).", "To serve it all the same: {}"]),
        ("without_await", ["1 thing is wrong (GET /).", "To serve it all the same: {}"]),
        ("upper_case_headers", ["Nothing is wrong; 1 piece of advice.", "To serve it: {}"]),
        (
            "failing_startup",
            [
                "1 thing is wrong (lifespan).",
                "It does not start, so nothing else was asked of it.",
                "To serve it without its startup and shutdown: {} --lifespan off",
            ],
        ),
        (
            "hanging_startup",
            [
                "1 thing is wrong (lifespan).",
                "It does not start, so nothing else was asked of it.",
                "Where it only needs longer: --timeout 9",
                "To serve it without its startup and shutdown: {} --lifespan off",
            ],
        ),
    ],
)
def test_the_closing_words_fit_what_was_found(checked, name, words):
    serve = f"miniasgi serve tests.check_applications:{name}"
    assert checked(name, timeout=SHORT).summary.splitlines() == [each.format(serve) for each in words]


def test_the_command_that_serves_it_repeats_how_it_was_loaded(checked, monkeypatch):
    monkeypatch.chdir(ROOT / "tests")
    told = Checked("make", app_dir="..", factory=True)
    expected = "miniasgi serve tests.check_applications:make --app-dir .. --factory"
    assert told.summary.splitlines()[-1] == f"To serve it: {expected}"


# ---- the command ----


def test_the_log_is_as_before_and_the_output_is_aligned(checked, capsys):
    import logging

    log = logging.getLogger("miniasgi")
    before = (log.handlers[:], log.propagate, log.level)
    assert cli.main(["check", "tests.check_applications:sound", "--path", "/", "--path", "/b"]) == 0
    assert (log.handlers[:], log.propagate, log.level) == before
    out, err = capsys.readouterr()
    assert err == ""
    *lines, blank, summary, _command = out.splitlines()
    assert blank == ""
    assert summary == "Nothing is wrong."
    assert [line[:22] for line in lines] == [
        "ok      application   ",
        "ok      lifespan      ",
        "ok      GET /         ",
        "ok      WebSocket /   ",
        "ok      GET /b        ",
        "ok      WebSocket /b  ",
        "ok      lifespan      ",
    ]


def test_the_log_is_heard_though_the_application_disabled_it(checked):
    import logging

    log = logging.getLogger("miniasgi")
    log.disabled = True  # as logging.config does with the loggers that there are
    try:
        assert checked("raising").code == WRONG_FOUND
        assert log.disabled
    finally:
        log.disabled = False


def test_a_reader_that_leaves_does_not_change_the_exit_code():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = [sys.executable, "-m", "miniasgi", "check", "tests.check_applications:raising"]
        done = subprocess.run(run, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=120)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("tests.check_applications:nobody",), "no attribute 'nobody'"),
        (("tests.check_applications:sound", "--path", "b"), "--path begins with a slash, not 'b'"),
        (("tests.check_applications:sound", "--timeout", "0"), "--timeout is more than 0 seconds, not 0"),
        (("tests.check_applications:sound", "--timeout", "x"), "; see miniasgi check --help"),
        (("tests.check_applications:sound", "--paht", "/"), "--paht /; did you mean '--path'"),
        (("tests.check_applications:sound", "--port", "1"), "unrecognized arguments: --port 1"),
        ((), "the following arguments are required: APP; see miniasgi check --help"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(checked, capsys, arguments, text):
    try:
        code = cli.main(["check", *arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("miniasgi: ")
    assert err.count("\n") == 1
    assert text in err


def test_what_cannot_be_meant_is_an_exception_in_a_program(checked):
    with pytest.raises(UsageError):
        checked("sound", paths=["b"])
    with pytest.raises(LoadError):
        checked("nobody")


def test_how_it_is_loaded_comes_from_the_environment_too(checked, capsys, monkeypatch):
    monkeypatch.setenv("MINIASGI_FACTORY", "yes")
    monkeypatch.setenv("MINIASGI_PORT", "99")  # of no use here
    assert cli.main(["check", "tests.check_applications:make"]) == 0
    assert "made by the factory" in capsys.readouterr().out


def test_the_mark_is_coloured_on_a_terminal_unless_the_user_wants_none(monkeypatch):
    line = Line(WRONG, "GET /", "text", ("detail",))
    assert cli.told(line, 5, coloured=False) == "WRONG   GET /  text\n          detail"
    assert cli.told(line, 5, coloured=True) == "\x1b[1;31mWRONG \x1b[0m  GET /  text\n          detail"

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert cli.is_coloured(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not cli.is_coloured(Terminal())
    assert not cli.is_coloured(sys.__stdout__) or sys.__stdout__.isatty()


def test_readme_shows_what_is_said():
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"\$ miniasgi check (examples/hello.py:app)\n(.*?)```", readme, re.DOTALL)
    code, output = command(shown[1], PWD=str(ROOT))

    def timeless(text):
        return re.sub(r"[\d.]+ m?s\b", "1 ms", text)

    assert code == 0
    assert timeless(output) == timeless(shown[2])
