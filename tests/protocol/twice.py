"""The same encounter twice, once with recall and once without: all that comes of it, to be compared.

And mutants: the code with one of its conditions taken out, which such a comparison has to find.

An example is (arguments, options) of `play`, which `stage` gives, but for the option `recall`.
"""

import asyncio
import inspect
import logging
import textwrap
from contextlib import contextmanager

import pytest
from hypothesis import Phase, given, settings

from tests.memory import DATE
from tests.protocol import encounters
from tests.protocol.encounters import Application, Encounter, Network, cancel_all

AT_ONCE = [(("feed", 10**6), 40)]  # a script


class Watched(Network):
    """A network that remembers what the server did to it."""

    def __init__(self, loop):
        super().__init__(loop)
        self.done = []

    def write(self, data):
        self.done.append(bytes(data))
        super().write(data)

    def close(self):
        self.done.append("close")
        super().close()

    def abort(self):
        self.done.append("abort")
        super().abort()

    def write_eof(self):
        self.done.append("write_eof")
        super().write_eof()

    def pause_reading(self):
        self.done.append("pause_reading")
        super().pause_reading()

    def resume_reading(self):
        self.done.append("resume_reading")
        super().resume_reading()


class Remembering(Application):
    """An application that remembers what it was called with, was given, and was told of what it sent."""

    overlaps = property(lambda self: False, lambda self, value: None)  # of two connections: as it should be

    def __init__(self, *programs):
        super().__init__(*programs)
        self.seen = []

    async def __call__(self, scope, receive, send):
        self.seen.append(dict(scope))
        scope["headers"].append((b"seen", b"by the application"))  # its own to change, as all of it is
        scope["extensions"]["seen"] = scope["state"]["seen"] = True

        async def received():
            message = await receive()
            self.seen.append(dict(message))
            return message

        async def sent(message):
            try:
                await send(message)
            except BaseException as error:
                self.seen.append((type(error), str(error)))
                raise

        await super().__call__(scope, received, sent)

    async def stop_server(self, call, receive, send):
        self.runtime.stop_accepting()

    async def start_and_change(self, call, receive, send, status, headers):
        """The list of headers is the application's own again, once send() has returned."""
        headers = list(headers)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        headers.append((b"x-late", b"never sent"))


async def all_that_comes_of(data, script, programs, *, warm=b"", **options):
    """(what the application saw, what was done to each connection, the access log), whether recall had a part in it.

    `warm` is what another client sends before.
    """
    log = []
    application = Remembering(*programs)
    encounter = Encounter(
        application,
        access=lambda visit, status, sent, seconds: log.append((visit, status, sent)),
        **options,
    )
    application.runtime = encounter.runtime
    other = encounter.client.connect()
    other.arrive(warm)
    await encounter.client.turns()
    other.break_off()
    encounter.gate()
    await encounter.client.turns()
    await encounter.play(script, data)
    encounter.take()
    await encounter.client.turns(100)  # in which all that is left of a stream can be answered
    encounter.transport.done.append("the client ends")  # the server has done before that what it could
    recall = encounter.runtime.recall
    await encounter.end()
    return (application.seen, other.done, encounter.transport.done, log), bool(recall and recall.status_lines)


@contextmanager
def stage():
    """`play(data, script, programs, …)` is `all_that_comes_of` it. What the server says of failures is not told."""
    logger = logging.getLogger("miniasgi")
    logger.disabled = True
    with pytest.MonkeyPatch.context() as monkeypatch, asyncio.Runner() as runner:
        monkeypatch.setattr(encounters.NetworkClient, "transport_class", Watched)
        monkeypatch.setattr("miniasgi.protocol.runtime.http_date", lambda: DATE)

        def play(*arguments, **options):
            try:
                return runner.run(all_that_comes_of(*arguments, **options))
            except BaseException:
                runner.run(cancel_all())
                raise

        try:
            yield play
        finally:
            logger.disabled = False


def compare(play, example):
    """What comes of an example with recall, which must be what comes of it without."""
    arguments, options = example
    told, recalled = play(*arguments, recall=True, **options)
    for with_recall, without in zip(told, play(*arguments, recall=False, **options)[0], strict=True):
        assert with_recall == without
    return told, recalled


def outcomes(strategy, how, crafted=()):
    """Some examples of the strategy, behind those that are given, and what comes of each without recall."""
    found = []
    with stage() as play:

        def keep(example):
            arguments, options = example
            found.append((example, play(*arguments, recall=False, **options)[0]))

        for each in crafted:
            keep(each)
        settings(how, phases=[Phase.generate])(given(strategy)(keep))()
    return found


def is_found(mutant, known):
    """Whether something else than what is known comes of one of these examples, with the code so changed."""
    owner, name, make = mutant
    with stage() as play, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(owner, name, make())
        return any(differs(play, example, without) for example, without in known)


def differs(play, example, without):
    arguments, options = example
    try:
        return play(*arguments, recall=True, **options)[0] != without
    except Exception:  # an assertion of the network's, or the server's own fault
        return True


def changed(function, old, new):
    """The function with a part of its source replaced."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{source.count(old)} times {old!r} in {function.__qualname__}"
    names = dict(function.__globals__)
    exec(source.replace(old, new), names)
    return names[function.__name__]


def instead(owner, name, old, new=""):
    """The attribute `name` of the owner, with `old` in its source replaced by `new`."""
    return owner, name, lambda: changed(getattr(owner, name), old, new)
