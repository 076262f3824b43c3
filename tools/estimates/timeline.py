"""The clock of the simulation: actions in the order of their time."""

import heapq
from collections.abc import Callable
from typing import Any


class Timeline:
    """A heap of (time, number, action, arguments); the number keeps actions of the same time in their order."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(time, *arguments)` at that time."""
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, action, arguments))

    def run(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            now, _, action, arguments = heapq.heappop(self._heap)
            action(now, *arguments)
