"""Which event loop, and how it is closed: for whoever runs a Server in a loop of its own.

A leaf. It never touches the event loop policy.
"""

import asyncio
import importlib.util
from collections.abc import Callable, Collection
from contextlib import suppress

from .config import ConfigError, named

# How long what was cancelled of the application may take to clean up, in seconds.
CLEAN_UP = 1.0


def choose_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop that the option names. Raises ConfigError where uvloop is missing."""
    if name == "uvloop" or (name == "auto" and importlib.util.find_spec("uvloop")):
        try:
            import uvloop
        except ImportError as error:
            raise ConfigError(f"{named('loop', 'uvloop')} needs uvloop: pip install uvloop") from error
        return uvloop.new_event_loop
    return asyncio.new_event_loop


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop. Unlike asyncio.run it does not wait for ever for a task that will not be cancelled."""
    try:
        loop.run_until_complete(end_what_is_left(asyncio.all_tasks(loop)))
    finally:
        loop.close()


async def end_what_is_left(tasks: Collection["asyncio.Task[object]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLEAN_UP)
    with suppress(TimeoutError):
        async with asyncio.timeout(CLEAN_UP):
            await asyncio.get_running_loop().shutdown_asyncgens()
