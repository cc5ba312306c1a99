"""An engine host whose engines do only what the test says."""

from voxray.base.errors import CapacityError, EngineConfigError
from voxray.pipelines.engines.base import EngineInfo, EngineKind

KINDS = {"hears": EngineKind.STT, "speaks": EngineKind.TTS}


class FakeEngineStream:
    """Keeps its inputs; the test hands out results and progress with `say` and `work`."""

    def __init__(self, info, on_output, on_end, on_progress) -> None:
        self.info = info
        self.say, self.end, self._progress = on_output, on_end, on_progress
        self.inputs = []
        self.accepted = self.consumed = 0
        self.full = self.closed = False
        self.raises = None

    @property
    def pending(self) -> int:
        return self.accepted - self.consumed

    def push(self, item) -> bool:
        if self.raises is not None:
            raise self.raises
        if self.full:
            return False
        self.inputs.append(item)
        self.accepted += 1
        return True

    def push_pcm(self, pcm, rate) -> bool:
        return self.push((pcm, rate))

    def work(self, count=None) -> None:
        self.consumed = self.accepted if count is None else self.consumed + count
        self._progress(self.consumed)

    def close(self) -> None:
        self.closed = True


class FakeEngineHost:
    def __init__(self, max_streams=8) -> None:
        self.max_streams = max_streams
        self.queue_s = 0.0
        self.opened: list[FakeEngineStream] = []

    @property
    def streams(self) -> int:
        return sum(not stream.closed for stream in self.opened)

    def infos(self):
        return tuple(
            EngineInfo(name=name, kind=kind, model="m", provider="p", sample_rate=16_000)
            for name, kind in KINDS.items()
        )

    def open(self, engine, options, *, on_output, on_end, on_progress=None, origin=None):
        info = next((info for info in self.infos() if engine in (info.name, info.kind)), None)
        if info is None or "wrong" in options:
            raise EngineConfigError(f"no {engine}")
        if self.streams >= self.max_streams:
            raise CapacityError("full")
        self.opened.append(FakeEngineStream(info, on_output, on_end, on_progress))
        self.opened[-1].origin = origin
        return self.opened[-1]
