"""What a replica says of itself, between bytes and plain types."""

from voxray.base.errors import ProtocolError
from voxray.pipelines.audio import check_rate
from voxray.pipelines.engines.base import EngineInfo, EngineKind
from voxray.pipelines.wire import inference_pb2 as pb
from voxray.pipelines.wire import messages as m
from voxray.pipelines.wire.checks import parse


def encode_describe_request() -> bytes:
    """Return the bytes of a request for a replica's description."""
    return pb.DescribeRequest().SerializeToString()


def encode_description(description: m.Description) -> bytes:
    """Return the bytes of a replica's description."""
    return pb.DescribeResponse(
        version=description.version,
        replica=description.replica,
        engines=[engine_message(info) for info in description.engines],
        streams=description.streams,
        max_streams=description.max_streams,
        recall_bytes=description.recall_bytes,
        load_interval_ms=description.load_interval_ms,
    ).SerializeToString()


def decode_description(data: bytes) -> m.Description:
    """Read what a replica says of itself; engines of a kind unknown here are left out.

    Raises:
        ProtocolError: the bytes are no description.
    """
    raw = pb.DescribeResponse()
    parse(raw, data)
    known = {kind.value for kind in EngineKind}
    return m.Description(
        version=raw.version,
        replica=raw.replica,
        engines=tuple(engine_info(engine) for engine in raw.engines if engine.kind in known),
        streams=raw.streams,
        max_streams=raw.max_streams,
        recall_bytes=raw.recall_bytes,
        load_interval_ms=raw.load_interval_ms,
    )


def engine_message(info: EngineInfo) -> pb.EngineDescription:
    """Return an engine as the contract says it."""
    return pb.EngineDescription(
        name=info.name,
        kind=info.kind.value,
        model=info.model,
        provider=info.provider,
        sample_rate=info.sample_rate,
    )


def engine_info(raw: pb.EngineDescription) -> EngineInfo:
    """Return an engine that a peer described.

    Raises:
        ProtocolError: it says nonsense.
    """
    try:
        kind = EngineKind(raw.kind)
    except ValueError as error:
        raise ProtocolError(f"got an engine of the unknown kind {raw.kind[:40]!r}") from error
    check_rate(raw.sample_rate)
    return EngineInfo(
        name=raw.name,
        kind=kind,
        model=raw.model,
        provider=raw.provider,
        sample_rate=raw.sample_rate,
    )
