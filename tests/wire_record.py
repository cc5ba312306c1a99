"""What went over one connection, byte by byte, and the talk that it was recorded from.

`python -m tests.wire_record PATH` records the talk between this version's host and replica. The
recordings under `tests/data` were made by earlier versions and stay as they are: whatever changes,
a host and a replica of neighbouring versions have to understand each other.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.event_log import EventLog
from tests.fakes.replica_process import replica_here
from voxray.base.errors import EngineConfigError, StreamFinishedError
from voxray.base.ids import HostId
from voxray.base.timing import SystemClock
from voxray.base.tls import Certificates
from voxray.pipelines.engines.base import EngineOutput, SpeechOutput, TranscriptOutput
from voxray.pipelines.remote_client import RemoteInferenceClient
from voxray.pipelines.remote_stream import RemoteStream
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import messages as m

FRAME = b"\x01\x00" * 160
"""10 ms at 16 kHz."""
HOST = "host"
REPLICA = "replica"


@dataclass
class WireRecord:
    """One connection.

    Attributes:
        version: of the contract, as the recorded side spoke it.
        description: the answer to `Describe`.
        batches: who sent what, in order.
        outcome: what the talk came to, for the host.
    """

    version: int = m.VERSION
    description: bytes = b""
    batches: list[tuple[str, bytes]] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        data = {
            "version": self.version,
            "description": _text(self.description),
            "batches": [[who, _text(batch)] for who, batch in self.batches],
            "outcome": self.outcome,
        }
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "WireRecord":
        data = json.loads(path.read_text())
        return cls(
            version=data["version"],
            description=base64.b64decode(data["description"]),
            batches=[(who, base64.b64decode(batch)) for who, batch in data["batches"]],
            outcome=data["outcome"],
        )


def new_client(
    *, token: str | None = None, certificates: Certificates | None = None
) -> RemoteInferenceClient:
    return RemoteInferenceClient(
        host_id=HostId("cafe0001"),
        node="node",
        coalesce_ms=10.0,
        sink=EventLog(),
        clock=SystemClock(),
        token=token,
        certificates=certificates,
    )


async def talk(client: RemoteInferenceClient) -> dict[str, Any]:
    """Use everything that the contract has; return what came of it."""
    outcome: dict[str, Any] = {}
    source = client.new_source()
    first = await client.open("listener", {"interim": True}, source=source, traceparent=TRACE)
    second = await client.open("stt", {}, source=source)
    outcome["interims"] = []
    for _ in range(3):
        source.push_audio(FRAME, 16_000)
        outcome["interims"].append(_said(await first.receive()))
    first.flush()
    second.flush()
    outcome["finals"] = [_said(await first.receive()), _said(await second.receive())]
    source.push_audio(FRAME * 4, 16_000)
    second.end_input()
    outcome["rest"] = [_said(each) for each in await _all(second)]
    await first.aclose()
    try:
        await client.open("listener", {"no_such_option": 1})
    except EngineConfigError as error:
        outcome["refusal"] = str(error)
    speaker = await client.open("tts", {})
    speaker.push_text("x" * 700)
    speaker.push_text("y" * 300)
    speaker.end_input()
    outcome["speech"] = [_said(each) for each in await _all(speaker)]
    return outcome


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def recording(record: WireRecord) -> Iterator[None]:
    """Note what the codec of this process encodes."""
    kept = codec.encode_client_batch, codec.encode_server_batch, codec.encode_description

    def noted(encode: Callable[[Any], bytes], who: str) -> Callable[[Any], bytes]:
        def run(batch: Any) -> bytes:
            record.batches.append((who, encode(batch)))
            return record.batches[-1][1]

        return run

    def described(description: m.Description) -> bytes:
        record.description = kept[2](description)
        return record.description

    codec.encode_client_batch = noted(kept[0], HOST)
    codec.encode_server_batch = noted(kept[1], REPLICA)
    codec.encode_description = described
    try:
        yield
    finally:
        codec.encode_client_batch, codec.encode_server_batch, codec.encode_description = kept


async def record_talk() -> WireRecord:
    record = WireRecord()
    with recording(record):
        async with replica_here() as (_, _, replica):
            client = new_client()
            client.set_replicas((replica,))
            record.outcome = await talk(client)
            await client.aclose()
    return record


async def _all(stream: RemoteStream) -> list[EngineOutput]:
    outputs = []
    while True:
        try:
            outputs.append(await stream.receive())
        except StreamFinishedError:
            return outputs


def _said(output: EngineOutput) -> list[Any]:
    match output:
        case TranscriptOutput():
            return [output.final, output.text, output.start_s, output.end_s]
        case SpeechOutput(samples=samples):
            return [len(samples), int(samples.astype(int).sum())]
    return [repr(output)]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    asyncio.run(record_talk()).save(Path(sys.argv[1]))
