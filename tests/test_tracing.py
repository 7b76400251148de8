"""What a process shows of what passes: in the terminal, in a file, and what is wrong with the options."""

import io
import json
import subprocess
import sys

import httpx
import pytest

from miniasgi.config import ConfigError, Tracing, make_configs
from miniasgi.observe.record import read_header, read_record
from miniasgi.observe.writing import Writer
from miniasgi.tracing import traced
from tests.conftest import ROOT


def records_of(path):
    head, *lines = path.read_text().splitlines()
    return read_header(head), [read_record(line, number) for number, line in enumerate(lines, 2)]


def test_a_trace_is_shown_in_the_terminal_and_written_to_a_file(process, tmp_path):
    path = tmp_path / "conversation.jsonl"
    server = process("tests.applications:hello", "--trace", "--trace-file", str(path))
    assert httpx.get(server.url + "/there").text == "hello"
    server.wait_for("returned")
    assert server.stop() == 0
    lines = [line for line in server.lines if " #1 " in line]
    assert "▶┊┊┊ bytes  " in lines[0]
    assert "GET /there HTTP/1.1" in lines[0]
    assert any("┊▶┊┊ h11    Request GET /there" in line for line in lines)
    assert any("┊┊┊▶ app    called: http GET /there" in line for line in lines)
    assert all(len(line) <= 100 for line in lines)
    assert "\x1b[" not in server.output
    about, records = records_of(path)
    assert about["app"] == "tests.applications:hello"
    assert len([each for each in records if each.exchange == 1]) == len(lines)


def test_only_the_lanes_that_were_named_are_shown(process):
    server = process("tests.applications:hello", "--trace=asgi")
    httpx.get(server.url)
    server.wait_for("http.response.body")
    server.stop()
    assert "┊┊◀┊ asgi   http.response.start: 200" in server.output
    assert "h11" not in server.output


def test_debug_and_a_trace_go_together(process):
    server = process("tests.check_applications:raising", "--debug", "--trace=asgi,app", "--lifespan=off")
    answer = httpx.get(server.url)
    assert answer.status_code == 500
    assert "Traceback" in answer.text
    server.wait_for("called: http GET /")
    server.stop()


def test_nothing_is_observed_where_nothing_is_shown():
    with traced(Tracing(), "app") as trace:
        assert trace is None


def test_what_a_trace_needs_is_not_imported_without_one():
    code = "import sys, miniasgi.cli; print([each for each in sys.modules if 'observe.' in each or 'show' in each])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for each in ("record", "trace", "stand_ins", "lanes", "writing"):
        assert f"'miniasgi.observe.{each}'" not in done.stdout
    assert "'miniasgi.show'" not in done.stdout


def test_what_an_option_cannot_mean_is_told():
    for options, text in [
        (
            {"trace": "events,asgy"},
            "trace is all, or some of bytes,events,asgi,app, not 'events,asgy'; did you",
        ),
        ({"inspect": "eight"}, "inspect is a port, or auto, not 'eight'"),
        ({"inspect": "70000"}, "inspect is a port, or auto, not '70000'"),
        ({"trace_secrets": True}, "trace_secrets=True has no effect without trace, trace_file or inspect"),
        ({"trace": True}, "trace is a value of type str, not True"),
        ({"tracing": "all"}, "there is no option 'tracing'"),
    ]:
        with pytest.raises(ConfigError) as raised:
            make_configs(options)
        assert str(raised.value).startswith(text)


def test_options_are_sorted_into_those_of_the_server_and_those_of_the_trace():
    config, tracing = make_configs({"port": 7, "trace": "asgi", "trace_secrets": True})
    assert (config.port, tracing.lanes, tracing.trace_secrets, bool(tracing)) == (7, ("asgi",), True, True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--trace-file", "/no/such/folder/x"),
            "--trace-file /no/such/folder/x cannot be written: No such file",
        ),
        (("--trace=sea",), "--trace is all, or some of bytes,events,asgi,app, not 'sea'"),
        (("--inspect=x",), "--inspect is a port, or auto, not 'x'"),
    ],
)
def test_a_mistake_is_one_line(arguments, text):
    command = [sys.executable, "-m", "miniasgi", "serve", "tests.applications:hello", "--port", "0"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith(f"miniasgi: {text}")
    assert done.stderr.count("\n") == 1


def test_the_application_behind_an_option_without_a_value_is_the_application():
    command = [sys.executable, "-m", "miniasgi", "serve", "--trace", "tests.applications:none", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert "tests.applications" in done.stderr
    assert "none" in done.stderr


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_file_that_takes_no_more_is_told_once_and_ends_nothing(caplog):
    writer = Writer(Full(), "x.jsonl")
    writer.write("a")
    writer.write("b")
    assert [each.getMessage() for each in caplog.records] == [
        "The trace to the x.jsonl ends here: No space left on device"
    ]


def test_a_terminal_without_arrows_is_written_to_without():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Writer(stream, "terminal").write("▶ bytes\n")
    assert stream.buffer.getvalue() == b"? bytes\n"


def test_a_reload_goes_on_with_the_trace(process, tmp_path):
    (tmp_path / "app.py").write_text("from tests.applications import hello as app\n")
    server = process("app:app", "--reload", "--trace=asgi", cwd=tmp_path)
    httpx.get(server.url)
    server.wait_for("http.response.start")
    assert server.stop() == 0


def test_each_line_of_the_file_is_json_whatever_passes(process, tmp_path):
    path = tmp_path / "trace.jsonl"
    server = process("tests.applications:echo", "--trace-file", str(path))
    body = bytes(range(256)) * 100
    assert httpx.post(server.url, content=body).content == body
    server.stop()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    written = [each for each in records if each.get("name") == "http.response.body"]
    assert written[0]["content"]["body"]["bytes"].startswith("\x00\x01")
