"""An event loop whose clock is not the machine's: sleeping takes no time, and code that runs takes none of the loop's.

For tests of what follows what and what waits for what; nothing in them may use threads or sockets.
"""

import asyncio


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer as soon as nothing else is to be done."""

    def __init__(self, late_s: float = 0.0) -> None:
        """
        Args:
            late_s: how much later than it should the loop wakes each time, as on a machine that has no time for it.
        """
        super().__init__()
        self._now_s = 0.0
        select = self._selector.select

        def jump(timeout: float | None = None) -> list:
            self._now_s += max(timeout, 0.0) + late_s if timeout else 0.0
            return select(timeout if timeout is None else 0)

        self._selector.select = jump

    def time(self) -> float:
        """Seconds slept so far."""
        return self._now_s


class VirtualTimePolicy(asyncio.DefaultEventLoopPolicy):
    """What a test module's fixture ``event_loop_policy`` returns."""

    def new_event_loop(self) -> VirtualTimeLoop:
        """A loop that begins at 0."""
        return VirtualTimeLoop()
