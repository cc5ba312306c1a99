"""Any message comes through the codec as it was; any bytes are read or refused, never worse."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxray.base.errors import ProtocolError
from voxray.pipelines.engines.base import (
    EngineInfo,
    EngineKind,
    ProbabilityOutput,
    SpeechEdgeOutput,
    TranscriptOutput,
    TurnOutput,
    Word,
)
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import inference_pb2 as pb
from voxray.pipelines.wire import messages as m

numbers = st.integers(1, 2**64 - 1)
counts = st.integers(0, 2**64 - 1)
rates = st.integers(8_000, 192_000)
names = st.text(st.characters(codec="utf-8"), max_size=20)
pcm = st.binary(min_size=1, max_size=400).map(lambda data: data * 2)
seconds = st.floats(0, 1e9)
shares = st.floats(0, 1, width=32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
infos = st.builds(
    EngineInfo,
    name=names,
    kind=st.sampled_from(EngineKind),
    model=names,
    provider=names,
    sample_rate=rates,
    max_batch=st.just(64),
    inputs_per_turn=st.just(64),
)
client_messages = st.one_of(
    st.builds(
        m.Open,
        numbers,
        st.text("abc", min_size=1),
        counts,
        st.dictionaries(names, json_values, max_size=3),
        names,
    ),
    st.builds(m.Audio, numbers, numbers, rates, pcm),
    st.builds(m.AudioAgain, *(numbers,) * 4, st.just(6), st.integers(1, 9).map(lambda n: n * 2)),
    st.builds(m.Text, numbers, names),
    st.builds(m.Flush, numbers, st.booleans()),
    st.builds(m.EndInput, numbers),
    st.builds(m.Close, numbers),
    st.builds(m.CloseSource, numbers),
    st.builds(m.Credit, numbers, counts),
)
words = st.builds(Word, names, seconds, seconds, shares)
outputs = st.one_of(
    st.builds(ProbabilityOutput, counts, shares, shares),
    st.builds(SpeechEdgeOutput, st.booleans(), seconds),
    st.builds(
        TranscriptOutput,
        *(names, st.booleans(), seconds, seconds, shares, names),
        words=st.lists(words, max_size=3).map(tuple),
    ),
    st.builds(TurnOutput, shares, seconds, shares),
)
server_messages = st.one_of(
    st.builds(m.Opened, numbers, infos),
    st.builds(m.Acknowledged, numbers, counts, counts),
    st.builds(m.Result, numbers, outputs),
    st.builds(m.Speech, numbers, counts, rates, pcm),
    st.builds(m.Flushed, numbers, counts),
    st.builds(m.Finished, numbers),
    st.builds(m.Failed, counts, names, names, st.booleans()),
    st.builds(m.Load, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), seconds),
)


@given(st.builds(m.ClientBatch, st.lists(client_messages).map(tuple), st.integers(0, 9), names))
def test_client_batches_come_through(batch):
    assert codec.decode_client_batch(codec.encode_client_batch(batch)) == batch


@given(st.builds(m.ServerBatch, st.lists(server_messages).map(tuple), st.integers(0, 9)))
def test_server_batches_come_through(batch):
    assert codec.decode_server_batch(codec.encode_server_batch(batch)) == batch


@given(
    st.builds(
        m.Description,
        replica=names,
        engines=st.lists(infos).map(tuple),
        streams=st.integers(0, 2**32 - 1),
        max_streams=st.integers(0, 2**32 - 1),
        recall_bytes=counts,
        version=st.integers(0, 9),
        load_interval_ms=st.integers(0, 2**32 - 1),
    )
)
def test_descriptions_come_through(description):
    assert codec.decode_description(codec.encode_description(description)) == description


READERS = (codec.decode_client_batch, codec.decode_server_batch, codec.decode_description)


@given(st.binary(), st.sampled_from(READERS))
def test_random_bytes_are_read_or_refused(data, read):
    with contextlib.suppress(ProtocolError):
        read(data)


@given(
    st.lists(client_messages, min_size=1).map(
        lambda all_: codec.encode_client_batch(m.ClientBatch(tuple(all_)))
    ),
    st.data(),
)
def test_damaged_batches_are_read_or_refused(encoded, data):
    damaged = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for read in READERS:
        with contextlib.suppress(ProtocolError):
            read(bytes(damaged))


def client(**fields):
    message = pb.ClientMessage(**fields)
    return pb.ClientBatch(messages=[message]).SerializeToString()


def server(**fields):
    message = pb.ServerMessage(**fields)
    return pb.ServerBatch(messages=[message]).SerializeToString()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (pb.Audio(source=1, sequence=1, rate=16_000, pcm=b"\0"), "even number"),
        (pb.Audio(source=1, sequence=1, rate=16_000, pcm=b""), "0 bytes"),
        (pb.Audio(source=1, sequence=1, rate=16_000, pcm=bytes(300_000)), "300000 bytes"),
        (pb.Audio(source=1, sequence=1, rate=7, pcm=b"\0\0"), "7 Hz"),
        (pb.Audio(source=1, sequence=0, rate=16_000, pcm=b"\0\0"), "start at 1"),
    ],
)
def test_bad_audio_is_pinned_on_its_source(message, reason):
    (found,) = codec.decode_client_batch(client(audio=message)).messages
    assert isinstance(found, m.Malformed)
    assert (found.stream, found.source) == (0, 1)
    assert reason in str(found.error)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (pb.Open(stream=1), "without an engine"),
        (pb.Open(stream=1, engine="e" * 300), "300 characters"),
        (pb.Open(stream=1, engine="e", options="{"), "no JSON"),
        (pb.Open(stream=1, engine="e", options="[1]"), "no JSON object"),
        (pb.Open(stream=1, engine="e", options="[" * 100_000), "no JSON"),
        (pb.Open(stream=1, engine="e", options=json.dumps({"g": "x" * 600_000})), "limit"),
    ],
)
def test_a_bad_open_is_pinned_on_its_stream(message, reason):
    (found,) = codec.decode_client_batch(client(open=message)).messages
    assert isinstance(found, m.Malformed)
    assert found.stream == 1
    assert reason in str(found.error)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (client(), "empty message"),
        (client(flush=pb.Flush()), "no stream and no source"),
        (client(open=pb.Open(engine="e")), "no stream and no source"),
        (pb.ClientBatch(host="h" * 300).SerializeToString(), "host"),
    ],
)
def test_what_can_be_pinned_on_nobody_is_refused(data, reason):
    with pytest.raises(ProtocolError, match=reason):
        codec.decode_client_batch(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (server(), "empty message"),
        (server(speech=pb.Speech(stream=1, rate=16_000, pcm=b"\0")), "even number"),
        (server(speech=pb.Speech(stream=1, rate=3, pcm=b"\0\0")), "3 Hz"),
        (server(opened=pb.Opened(stream=1)), "unknown kind"),
        (server(speech_edge=pb.SpeechEdge(stream=1, at_s=math.nan)), "not finite"),
        (server(transcript=pb.Transcript(stream=1, end_s=math.inf)), "not finite"),
        (server(probability=pb.Probability(stream=1, probability=math.nan)), "not finite"),
    ],
)
def test_nonsense_of_a_replica_is_refused(data, reason):
    with pytest.raises(ProtocolError, match=reason):
        codec.decode_server_batch(data)


def test_what_a_newer_peer_says_is_passed_over():
    # Field 99 of the message: what a later version may add.
    newer = bytes.fromhex("9a0602") + b"ab"
    for batch, read in ((pb.ClientBatch, READERS[0]), (pb.ServerBatch, READERS[1])):
        number = batch.DESCRIPTOR.fields_by_name["messages"].number
        data = bytes([number << 3 | 2, len(newer)]) + newer
        assert read(data).messages == ()


def test_every_message_of_the_contract_has_a_reader():
    for message, readers in (
        (pb.ClientMessage, codec._CLIENT_READERS),
        (pb.ServerMessage, codec._SERVER_READERS),
    ):
        assert set(readers) == set(message.DESCRIPTOR.fields_by_name)


def test_a_malformed_message_is_never_sent():
    bad = m.Malformed(1, 0, ProtocolError("bad"))
    with pytest.raises(ValueError, match="malformed"):
        codec.encode_client_batch(m.ClientBatch((bad,)))
