"""Whose line it was: libraries, the standard library and miniasgi are told from one's own code."""

import asyncio
import gc
import sys
import threading
import traceback

import pytest
import uvloop

from miniasgi.asgi import ASGIError
from miniasgi.explain import frames
from miniasgi.explain.frames import (
    calling,
    is_call_itself,
    of_application,
    places,
    running_in,
    senders,
    short,
    summary,
)
from miniasgi.explain.shown import shown


def library(tmp_path, source, name="library"):
    """A function `call` of an installed library."""
    path = tmp_path / "site-packages" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    space = {}
    exec(compile(source, str(path), "exec"), space)
    return space["call"]


def test_the_sender_is_the_line_of_the_application():
    [line] = senders()
    assert line.startswith("tests/explain/test_frames.py, line ")
    assert line.endswith(", in test_the_sender_is_the_line_of_the_application")


def test_a_library_is_named_below_the_application(tmp_path):
    call = library(tmp_path, "def inner(f):\n    return f()\n\ndef call(f):\n    return inner(f)\n")
    own, through = call(senders)
    assert own.endswith("in test_a_library_is_named_below_the_application")
    assert through == "library.py, line 2, in inner (a library)"


def test_where_nobody_outside_is_on_the_stack_there_is_no_sender(monkeypatch):
    monkeypatch.setattr(frames, "is_ours", lambda file: True)
    assert senders() == []


def test_the_stack_of_another_thread_is_seen_where_it_is():
    there, over = threading.Event(), threading.Event()

    def wait_here():
        there.set()
        over.wait(20)

    thread = threading.Thread(target=wait_here)
    thread.start()
    there.wait(20)
    names = [frame.f_code.co_name for frame, _ in running_in(thread.ident)]
    over.set()
    thread.join()
    assert "wait_here" in names
    assert running_in(thread.ident) == []
    assert gc.isenabled()


def test_a_file_is_shown_as_seen_from_the_folder_of_the_process(monkeypatch):
    monkeypatch.setenv("PWD", "/here")
    assert short("/here/a/b.py") == "a/b.py"
    assert short("/there/b.py") == "/there/b.py"
    monkeypatch.delenv("PWD")
    assert short("/here/a/b.py") == "/here/a/b.py"


def raised(tmp_path, error):
    """`error`, raised by a function of ours that was called by an application, that was called by ours."""
    space = {"error": error}
    exec(compile("def send():\n    raise error\n", frames.PACKAGE + "send.py", "exec"), space)
    exec(compile("def app():\n    send()\n", str(tmp_path / "app.py"), "exec"), space)
    exec(compile("def run():\n    app()\n", frames.PACKAGE + "run.py", "exec"), space)
    try:
        space["run"]()
    except BaseException as caught:
        caught.__traceback__ = caught.__traceback__.tb_next
        return caught


@pytest.mark.parametrize(("error", "shown"), [(ASGIError("x"), ["app"]), (ValueError("x"), ["app", "send"])])
def test_a_traceback_begins_in_the_application_and_ends_there_for_a_misuse(tmp_path, error, shown):
    kind, value, trace = of_application(raised(tmp_path, error))
    assert (kind, value) == (type(error), error)
    assert [each.name for each in traceback.extract_tb(trace)] == shown


def failed(call):
    """What the call raises, without the frames of this file."""
    with pytest.raises((AttributeError, TypeError)) as caught:
        call()
    trace = caught.value.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return caught.value.with_traceback(trace)


def test_a_traceback_of_ours_alone_is_kept_whole():
    error = failed(lambda: short(None))
    assert of_application(error)[2] is error.__traceback__ is not None
    assert not is_call_itself(error)


def test_a_call_that_fails_itself_is_told_from_an_application_that_fails(tmp_path):
    assert is_call_itself(failed(lambda: short(1, 2)))
    assert not is_call_itself(raised(tmp_path, TypeError("of the application")))


def test_a_summary_is_one_line_without_notes():
    error = ValueError("one\ntwo")
    error.add_note("a note")
    assert summary(error) == "ValueError: one"
    with pytest.raises(SyntaxError) as caught:
        compile("def (", "x", "exec")
    assert summary(caught.value).startswith("SyntaxError: ")


LIBRARY = """
async def call(function):
    return function()

class Shown:
    def __repr__(self):
        self.lines = look()
        return "shown"
"""


def asynchronous_library(**names):
    exec(compile(LIBRARY, "/x/site-packages/library.py", "exec"), names)
    return names


def test_what_a_library_does_in_a_task_is_not_put_on_who_runs_the_loop():
    [line] = asyncio.run(asynchronous_library()["call"](senders))
    assert line == "library.py, line 3, in call (a library)"


def test_who_runs_a_loop_that_is_not_written_in_python_is_no_sender():
    found = []

    async def send():
        found.append(senders())

    loop = uvloop.new_event_loop()
    loop.run_until_complete(send())
    loop.close()
    [[line]] = found
    assert line.endswith(", in send")


def test_what_miniasgi_calls_is_put_on_who_called_miniasgi():
    value = asynchronous_library(look=lambda: places(calling(sys._getframe(1))))["Shown"]()
    shown({"key": value})
    assert "library.py" not in "".join(value.lines)
    assert value.lines[-1].endswith('shown({"key": value})')
