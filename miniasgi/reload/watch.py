"""Which code has changed: Python files below some folders, compared with how they were when last looked at.

The package watchfiles, where it is installed, only says when to look; without it, that is once a second. What
has changed is said by the files themselves, so both ways agree, and a file that was opened, or got another
owner, is no change. It knows nothing of processes.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("miniasgi")

# Seconds between two looks, where nobody says when to look.
INTERVAL = 1.0
# Seconds without a change after which a burst is over: an editor that saves all its files, a git checkout.
QUIET = 0.1
# Seconds after which a burst that goes on is told all the same.
BURST = 3.0

# Much code, of others, that changes seldom; as in hidden folders and virtual environments.
SKIPPED = ("__pycache__", "node_modules")

State = tuple[int, int, int]


class Code:
    """The Python files below some folders, as they were when last looked at. Made and asked by `watched`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self.seen = self.look()

    def look(self) -> dict[Path, State]:
        return {path: state for folder in self.folders for path, state in states(folder)}

    def changed(self) -> set[Path]:
        """The files that are other ones than at the last look, new, or gone."""
        before, self.seen = self.seen, self.look()
        return {path for path, _ in before.items() ^ self.seen.items()}

    def burst(self, stop: threading.Event) -> set[Path]:
        """What has changed, and what changes with it: returns once there is no more of it."""
        until = time.monotonic() + BURST
        found = more = self.changed()
        while more and time.monotonic() < until and not stop.wait(QUIET):
            more = self.changed()
            found |= more
        return found


def states(folder: Path) -> Iterator[tuple[Path, State]]:
    """Each Python file below a folder, with what is another after it was written, or replaced by another."""
    for within, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not is_skipped(Path(within, each))]
        for name in files:
            if name.endswith(".py") and not name.startswith("."):  # Emacs locks app.py by a link .#app.py
                path = Path(within, name)
                try:
                    status = path.stat()
                except OSError:  # gone since, or a link to nothing
                    continue
                yield path, (status.st_mtime_ns, status.st_size, status.st_ino)


def is_skipped(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in SKIPPED or (folder / "pyvenv.cfg").is_file()


# ---- when to look -----------------------------------------------------------------------------------------


def by_watchfiles(folders: Sequence[Path], stop: threading.Event) -> Iterator[bool]:
    """Whether to look, several times a second; from the first time on, no change is missed."""
    from watchfiles import watch

    def may_be_code(_: object, path: str) -> bool:
        # A folder that was moved is one change, of the folder; the files in it are not told.
        return path.endswith(".py") or not (Path(path).suffix or os.path.isfile(path))

    yield from map(
        bool,
        watch(
            *folders,
            watch_filter=may_be_code,
            stop_event=stop,
            rust_timeout=50,  # milliseconds
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ),
    )


def by_time(stop: threading.Event) -> Iterator[bool]:
    """Whether to look: now and then. Looking takes no more than a tenth of the time, however many files."""
    pause = 0.0
    while not stop.wait(pause):
        began = time.monotonic()
        yield True
        pause = max(INTERVAL, 9 * (time.monotonic() - began))


def choose(folders: Sequence[Path], stop: threading.Event) -> tuple[Iterator[bool], str]:
    """When to look, begun already, and how that is told."""
    often = f"looked at every {INTERVAL:g} s"
    try:
        looks = by_watchfiles(folders, stop)
        next(looks)
    except ImportError:
        return by_time(stop), f"{often} (`pip install watchfiles` has it seen at once)"
    except (OSError, RuntimeError) as error:  # the system has a limit of folders that can be watched
        return by_time(stop), f"{often}, for watchfiles fails: {error}"
    return looks, "seen by watchfiles"


@contextmanager
def watched(folders: Sequence[Path], tell: Callable[[set[Path] | Exception], None]) -> Iterator[str]:
    """While the block runs, a thread calls `tell` with what has changed, or with the error that ended it.

    Yields how it is watched. No change from then on is missed.
    """
    stop = threading.Event()
    looks, how = choose(folders, stop)
    code = Code(folders)

    def look() -> None:
        try:
            for _ in filter(None, looks):
                if found := code.burst(stop):
                    tell(found)
        except Exception as error:
            tell(error)

    thread = threading.Thread(target=look, name="miniasgi watches the code")
    thread.start()
    try:
        yield how
    finally:
        stop.set()
        thread.join()
