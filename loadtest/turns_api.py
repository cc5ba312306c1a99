"""The turns of a room as the agent's side measured them, from the dispatcher's HTTP API."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

from voxray.base.errors import ConnectionFailedError, ProtocolError
from voxray.base.timing import Clock, SystemClock

STAGES = ("transcription", "end_of_turn", "llm_ttft", "tts_ttfb", "e2e")
"""Stages in the order in which they pass; `e2e` covers them all."""

_REQUEST_TIMEOUT_S = 5.0
_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class TurnRecord:
    """One turn as measured inside.

    Attributes:
        number: counts the turns of a job's generation, from 1.
        stages: seconds by stage (`STAGES`); what was not measured is absent.
        tools: names of the tools that were called, in order.
    """

    number: int
    stages: Mapping[str, float] = field(default_factory=dict)
    tools: tuple[str, ...] = ()


class TurnsApi:
    """Asks a dispatcher for the turns of one room."""

    def __init__(
        self, api_url: str, room: str, *, token: str = "", clock: Clock | None = None
    ) -> None:
        self._url = f"{api_url.rstrip('/')}/turns"
        self._room = room
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._clock = clock or SystemClock()
        self._http: aiohttp.ClientSession | None = None
        self._cursor = 0

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)
        self._http = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def next_turn(self, timeout_s: float) -> TurnRecord | None:
        """Return the newest turn that was not returned before, waiting for one.

        The record is written when the answer has been said, which is a moment after the caller
        has heard it.

        Args:
            timeout_s: how long to wait; None is returned after it.

        Raises:
            ConnectionFailedError: the dispatcher can't be reached.
            ProtocolError: its answer is no list of turns.
        """
        deadline = self._clock.monotonic() + timeout_s
        while True:
            if turns := await self._fetch():
                self._cursor, newest = turns[-1]
                return newest
            if self._clock.monotonic() >= deadline:
                return None
            await asyncio.sleep(_POLL_S)

    async def _fetch(self) -> list[tuple[int, TurnRecord]]:
        """Return the turns after the cursor with their own cursors, oldest first."""
        if self._http is None:
            raise RuntimeError("the turns API is used as a context manager")
        parameters = {"room": self._room, "after": str(self._cursor)}
        try:
            async with self._http.get(self._url, params=parameters) as response:
                response.raise_for_status()
                content = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionFailedError(f"the dispatcher at {self._url} fails: {error}") from error
        except ValueError as error:
            raise ProtocolError(f"the answer of {self._url} is no JSON") from error
        if not isinstance(content, list):
            raise ProtocolError(f"the answer of {self._url} is no list of turns")
        return [_parse(self._url, item) for item in content]


def _parse(url: str, item: Any) -> tuple[int, TurnRecord]:
    try:
        turn = TurnRecord(
            number=int(item["number"]),
            stages={str(name): float(value) for name, value in item["stages"].items()},
            tools=tuple(str(name) for name in item.get("tools", ())),
        )
        return int(item["cursor"]), turn
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"the answer of {url} holds something that is no turn") from error
