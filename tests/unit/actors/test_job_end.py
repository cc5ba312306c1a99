"""How a job learns that its agent came into another room than its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest
from livekit import rtc

from voxray.actors.job_end import is_alone_elsewhere

CALLER = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD
PHONE = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT


@dataclass
class Person:
    kind: int


class Room:
    """A connected room, as its agent sees it."""

    def __init__(self, sid: str, *kinds: int) -> None:
        self._sid = sid
        self.remote_participants: Mapping[str, Any] = {
            str(number): Person(kind) for number, kind in enumerate(kinds)
        }

    @property
    async def sid(self) -> str:
        return self._sid


@pytest.mark.parametrize(
    ("sid", "kinds", "alone"),
    [
        ("RM_1", (), False),
        ("RM_1", (AGENT,), False),
        ("RM_2", (), True),
        ("RM_2", (AGENT,), True),
        ("RM_2", (CALLER,), False),
        ("RM_2", (AGENT, PHONE), False),
    ],
)
async def test_only_an_agent_without_a_caller_in_another_room_is_alone(
    sid: str, kinds: tuple[int, ...], alone: bool
) -> None:
    room = cast("rtc.Room", Room(sid, *kinds))
    assert await is_alone_elsewhere(room, "RM_1") is alone
