"""Time in tests: an event loop where an hour of waiting takes none, and what is measured on a busy machine."""

import asyncio
import selectors


class Impatient(selectors.DefaultSelector):
    """Does not wait until the next timer is due, but lets the loop's time pass."""

    passed = 0.0  # seconds that were not waited

    def select(self, timeout=None):
        # A moment is waited even so: what another thread or the kernel is about to do may come first.
        ready = super().select(0 if timeout is None or timeout <= 0 else min(timeout, 0.001))
        if timeout is None:
            return ready or super().select(None)
        if not ready and timeout > 0:
            self.passed += timeout
        return ready


class ImpatientLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.impatient = Impatient()
        super().__init__(self.impatient)

    def time(self):
        return super().time() + self.impatient.passed


def run(coroutine):
    """asyncio.run, on such a loop."""
    with asyncio.Runner(loop_factory=ImpatientLoop) as runner:
        return runner.run(coroutine)


async def quickest(attempt):
    """Attempt it three times; the least of the seconds that it returns. The machine may be busy with others."""
    return min([await attempt() for _ in range(3)])
