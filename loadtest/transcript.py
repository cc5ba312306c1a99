"""What a caller sees of the conversation in words: LiveKit's transcription streams, assembled.

Pure. A segment may come as one growing stream (the agent's words) or as several streams with the
same segment id, each with the whole text so far (the caller's words as they are recognised).
"""

from dataclasses import dataclass

TRANSCRIPTION_TOPIC = "lk.transcription"
_SEGMENT_ID = "lk.segment_id"
_FINAL = "lk.transcription_final"


@dataclass(kw_only=True)
class _Segment:
    speaker: str
    stream_id: str
    text: str = ""
    final: bool = False


class Transcript:
    """The words of all speakers of a room since the last `clear`."""

    def __init__(self) -> None:
        self._segments: dict[str, _Segment] = {}

    def clear(self) -> None:
        """Forget everything; what comes next belongs to the next turn."""
        self._segments.clear()

    def begin(self, speaker: str, stream_id: str, attributes: dict[str, str]) -> str:
        """Take note of a new stream and return the id of its segment.

        Args:
            speaker: identity of the participant whose words these are.
            stream_id: id of the stream, used when it names no segment.
            attributes: attributes of the stream.
        """
        segment_id = attributes.get(_SEGMENT_ID) or stream_id
        segment = _Segment(speaker=speaker, stream_id=stream_id, final=_is_final(attributes))
        known = self._segments.get(segment_id)
        if known is not None:
            # The text so far stays until the new stream has some: a transcript never flickers.
            segment.text = known.text
        self._segments[segment_id] = segment
        return segment_id

    def grow(self, segment_id: str, stream_id: str, text: str) -> None:
        """Set the text that a stream has brought so far."""
        segment = self._segments.get(segment_id)
        if segment is not None and segment.stream_id == stream_id:
            segment.text = text

    def end(self, segment_id: str, stream_id: str, attributes: dict[str, str]) -> None:
        """Take note that a stream ended, with its attributes as they are then."""
        segment = self._segments.get(segment_id)
        if segment is not None and segment.stream_id == stream_id:
            segment.final = segment.final or _is_final(attributes)

    def words_of(self, speaker: str) -> str:
        """Return what a speaker said, segment after segment."""
        texts = (segment.text.strip() for segment in self._of(speaker))
        return " ".join(text for text in texts if text)

    def settled(self, speaker: str) -> bool:
        """Whether a speaker said something and every segment of it is final."""
        segments = self._of(speaker)
        return bool(segments) and all(segment.final for segment in segments)

    def _of(self, speaker: str) -> list[_Segment]:
        return [segment for segment in self._segments.values() if segment.speaker == speaker]


def _is_final(attributes: dict[str, str]) -> bool:
    return attributes.get(_FINAL) == "true"
