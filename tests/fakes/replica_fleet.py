"""Replicas in processes of their own, and callers that speak to them while they are killed."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.fakes.replica_process import replica_process
from tests.fakes.speech import RATE, frames, spoken
from voxray.pipelines.engines.base import TranscriptOutput
from voxray.pipelines.remote_client import RemoteInferenceClient
from voxray.pipelines.routing import Replica

WORDS = ("bravo", "charlie", "foxtrot", "hotel", "juliet", "november", "seventy", "yellow")
"""Words that sound unlike each other: a replica that has just begun to hear a voice is to hear
the same as one that has got used to it."""
GRAMMAR = (
    "#JSGF V1.0; grammar words; public <said> = <word> <word> <word>;"
    f" <word> = {' | '.join(WORDS)};"
)
ENGINE = "pocketsphinx"


def sentences(count: int, seed: int) -> list[str]:
    """Different sentences of three words."""
    rng = random.Random(seed)
    every = [f"{one} {two} {three}" for one in WORDS for two in WORDS for three in WORDS]
    return rng.sample(every, count)


@dataclass
class ReplicaFleet:
    """Replicas that a client is told of, as the dispatcher would tell a host."""

    client: RemoteInferenceClient
    stack: AsyncExitStack
    running: dict[int, tuple[asyncio.subprocess.Process, Replica]] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)
    last: int = 0

    async def add(self) -> None:
        """Start one more."""
        self.last += 1
        number = self.last
        self.running[number] = await self.stack.enter_async_context(
            replica_process(number, hosted=(ENGINE,))
        )
        self.announce()

    def announce(self) -> None:
        self.client.set_replicas(tuple(replica for _, replica in self.running.values()))

    def signal(self, number: int, kind: signal.Signals) -> None:
        """Kill or freeze one; the client is not told."""
        self.running[number][0].send_signal(kind)
        if kind is signal.SIGSTOP:
            self.frozen.add(number)

    async def replace(self, number: int) -> None:
        """Do what the dispatcher does with one that is dead or silent."""
        process, _ = self.running[number]
        await self.add()
        del self.running[number]
        self.frozen.discard(number)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        self.announce()

    def well(self) -> list[int]:
        return [number for number in self.running if number not in self.frozen]


@asynccontextmanager
async def replica_fleet(client: RemoteInferenceClient, count: int) -> AsyncIterator[ReplicaFleet]:
    async with AsyncExitStack() as stack:
        fleet = ReplicaFleet(client, stack)
        await asyncio.gather(*(fleet.add() for _ in range(count)))
        yield fleet


@dataclass
class Caller:
    """One stream that says its sentences one after the other and notes what is heard."""

    client: RemoteInferenceClient
    says: Sequence[str]
    on_final: Callable[[], None]
    pause_s: float = 0.0
    """Between frames of 20 ms; 0 speaks as fast as it can."""
    heard: list[str] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    """From the last frame of a sentence to its transcript."""

    async def run(self) -> None:
        stream = await self.client.open(ENGINE, {"grammar": GRAMMAR, "interim_results": False})
        try:
            for sentence in self.says:
                # The endpointer needs 0.35 s of silence to be certain of the end.
                audio = frames(spoken(sentence, before_s=0.3, after_s=0.7))
                for frame in audio:
                    stream.push_audio(frame.tobytes(), RATE)
                    await asyncio.sleep(self.pause_s)
                ended = time.monotonic()
                await self._final(stream)
                self.delays_s.append(time.monotonic() - ended)
            stream.end_input()
            with contextlib.suppress(Exception):
                while True:
                    self._note(await stream.receive())
        finally:
            await stream.aclose()

    async def _final(self, stream) -> None:
        wanted = len(self.heard) + 1
        while len(self.heard) < wanted:
            self._note(await stream.receive())

    def _note(self, output) -> None:
        if isinstance(output, TranscriptOutput) and output.final:
            self.heard.append(output.text)
            self.spans.append((output.start_s, output.end_s))
            self.on_final()
