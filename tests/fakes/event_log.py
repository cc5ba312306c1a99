"""A sink that keeps the events it was given, and lets a test wait for one."""

import asyncio
from collections.abc import Callable

from voxray.observability.events import Event


class EventLog:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self._grew = asyncio.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._grew.set()

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, wanted: Callable[[list[Event]], bool]) -> None:
        while not wanted(self.events):
            self._grew.clear()
            await self._grew.wait()

    async def first(self, kind: type) -> Event:
        await self.until(lambda _: bool(self.of(kind)))
        return self.of(kind)[0]
