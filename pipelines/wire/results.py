"""What engines say, between their results and the contract; `codec.py` has the rest of it.

Readers raise `ProtocolError` for numbers that are none.
"""

from voxray.pipelines.engines.base import (
    ProbabilityOutput,
    SpeechEdgeOutput,
    TranscriptOutput,
    TurnOutput,
    Word,
)
from voxray.pipelines.wire import inference_pb2 as pb
from voxray.pipelines.wire import messages as m
from voxray.pipelines.wire.checks import check_finite


def probability(body: pb.Probability) -> m.Result:
    """Read the probability of a window."""
    check_finite("probability", body.probability, body.inference_s)
    output = ProbabilityOutput(body.end_sample, body.probability, body.inference_s)
    return m.Result(body.stream, output)


def speech_edge(body: pb.SpeechEdge) -> m.Result:
    """Read an edge of speech."""
    check_finite("speech edge", body.at_s)
    return m.Result(body.stream, SpeechEdgeOutput(body.speaking, body.at_s))


def _word(body: pb.Word) -> Word:
    check_finite("word", body.start_s, body.end_s, body.confidence)
    return Word(body.text, body.start_s, body.end_s, body.confidence)


def turn(body: pb.Turn) -> m.Result:
    """Read the answer of a turn detector."""
    check_finite("turn", body.probability, body.at_s, body.inference_s)
    return m.Result(body.stream, TurnOutput(body.probability, body.at_s, body.inference_s))


def transcript(body: pb.Transcript) -> m.Result:
    """Read a transcript."""
    check_finite("transcript", body.start_s, body.end_s, body.confidence)
    output = TranscriptOutput(
        text=body.text,
        final=body.final,
        start_s=body.start_s,
        end_s=body.end_s,
        confidence=body.confidence,
        language=body.language,
        words=tuple(_word(word) for word in body.words),
    )
    return m.Result(body.stream, output)


def add_result(entry: pb.ServerMessage, message: m.Result) -> None:
    """Write a result into a message."""
    output = message.output
    match output:
        case ProbabilityOutput():
            probability = entry.probability
            probability.stream = message.stream
            probability.end_sample = output.end_sample
            probability.probability = output.probability
            probability.inference_s = output.inference_s
        case SpeechEdgeOutput(speaking=speaking, at_s=at_s):
            edge = pb.SpeechEdge(stream=message.stream, speaking=speaking, at_s=at_s)
            entry.speech_edge.CopyFrom(edge)
        case TranscriptOutput():
            entry.transcript.CopyFrom(
                pb.Transcript(
                    stream=message.stream,
                    final=output.final,
                    text=output.text,
                    start_s=output.start_s,
                    end_s=output.end_s,
                    confidence=output.confidence,
                    language=output.language,
                    words=[
                        pb.Word(
                            text=word.text,
                            start_s=word.start_s,
                            end_s=word.end_s,
                            confidence=word.confidence,
                        )
                        for word in output.words
                    ],
                )
            )
        case TurnOutput(probability=probability, at_s=at_s, inference_s=inference_s):
            entry.turn.CopyFrom(
                pb.Turn(
                    stream=message.stream,
                    probability=probability,
                    at_s=at_s,
                    inference_s=inference_s,
                )
            )
