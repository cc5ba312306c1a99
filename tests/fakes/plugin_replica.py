"""Replicas in this process for the plugins: real gRPC, and engines that any option suits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.fakes.replica_process import NamedEngine, replica_here
from voxray.base.ids import HostId
from voxray.base.timing import SystemClock
from voxray.observability.events import NullSink
from voxray.pipelines import runtime
from voxray.pipelines.engines.base import EngineKind
from voxray.pipelines.remote_client import RemoteInferenceClient


@dataclass
class EasyEngine(NamedEngine):
    """A scripted engine that takes the options of any plugin, and keeps the last it was given."""

    def open(self, options):
        self.options = dict(options)
        return super().open({})


def listener() -> EasyEngine:
    return EasyEngine(name="listener", kind=EngineKind.STT)


def speaker() -> EasyEngine:
    return EasyEngine(name="speaker", kind=EngineKind.TTS, sample_rate=22_050)


@asynccontextmanager
async def remote_client(*replicas, sink=None) -> AsyncIterator[RemoteInferenceClient]:
    """A client of replicas that the plugins of this process use."""
    client = RemoteInferenceClient(
        host_id=HostId("cafe0001"),
        node="node",
        coalesce_ms=10.0,
        sink=sink or NullSink(),
        clock=SystemClock(),
    )
    client.set_replicas(replicas)
    runtime.install(client)
    try:
        yield client
    finally:
        runtime.uninstall(client)
        await client.aclose()


@asynccontextmanager
async def plugin_replica(*engines) -> AsyncIterator[RemoteInferenceClient]:
    """A replica of these engines (or names of real ones), and the plugins' client to it."""
    async with (
        replica_here(hosted=list(engines)) as (_, _, replica),
        remote_client(replica) as client,
    ):
        yield client
