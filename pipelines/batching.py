"""When to close a batch, and what goes into it. Pure: time comes in, decisions come out.

The rules of one engine, whose batches run one after the other:

* A batch closes when it is full, when its oldest input has waited for the latency budget, or as
  soon as waiting would gain nothing: no other stream is expected to bring work within the
  budget, or sharing a batch would hardly make the work cheaper.
* A stream is in a batch at most once, with its queued inputs in order. Streams take turns: who
  has waited longest is served first, and each has at least one input in the batch. More of them
  are taken in by turns while they are expected to lengthen the batch by no more than `turn_s`
  together; a stream with a long queue then lines up again behind the others.
* The stream with the least work stands first in a batch: most engines work item by item, and one
  long utterance must not hold the short ones up.
* Queues are bounded. What is queued for a closed stream never runs, and what is queued for a held
  one waits until it is released.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from voxray.pipelines.cost_model import CostModel

T = TypeVar("T")

_WORTHWHILE_SHARE = 0.05
# Sharing a batch saves its fixed cost once for each further stream. Below this part of what a
# stream costs anyway, holding it back buys nothing that anyone would notice.
_INTERVAL_WEIGHT = 0.2
# How fast the estimate of a stream's rhythm follows: about the last ten inputs.
_LATE_FACTOR = 2.0
# A stream that is this many of its intervals late has paused, and is not waited for.


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """The bounds of one engine's batches and queues.

    Attributes:
        max_batch: streams in one batch at most.
        latency_budget_s: longest time that an input is held back for company.
        inputs_per_turn: inputs of one stream in one batch at most.
        turn_s: expected seconds by which inputs beyond the first of each stream may lengthen a
            batch: so long a newcomer waits for the backlog of others.
        queue_limit: inputs of one stream that may wait; 512 are 10 s of 20 ms frames.
    """

    max_batch: int
    latency_budget_s: float
    inputs_per_turn: int = 64
    turn_s: float = 0.05
    queue_limit: int = 512


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[T]):
    """What is to be run now.

    Attributes:
        items: stream keys with their inputs in order; no key occurs twice.
        oldest_s: when the oldest input of the batch was queued.
        weight: sum of the weights of all inputs.
    """

    items: tuple[tuple[int, tuple[T, ...]], ...]
    oldest_s: float
    weight: float = 0.0


class _Queued(NamedTuple, Generic[T]):
    item: T
    since_s: float
    weight: float


class _Stream(Generic[T]):
    """The queue of one stream and the rhythm in which it brings inputs."""

    __slots__ = ("interval_s", "last_s", "queue")

    def __init__(self) -> None:
        self.queue: deque[_Queued[T]] = deque()
        self.last_s: float | None = None
        self.interval_s: float | None = None

    def arrived(self, now_s: float) -> None:
        if self.last_s is not None:
            gap_s = now_s - self.last_s
            before_s = gap_s if self.interval_s is None else self.interval_s
            self.interval_s = before_s + _INTERVAL_WEIGHT * (gap_s - before_s)
        self.last_s = now_s

    def expected_by(self, now_s: float, deadline_s: float) -> bool:
        if self.last_s is None or self.interval_s is None:
            return False
        paused = now_s - self.last_s > _LATE_FACTOR * self.interval_s
        return not paused and self.last_s + self.interval_s <= deadline_s


class Batcher(Generic[T]):
    """The queues of one engine's streams. Keys are the caller's; times are monotonic seconds."""

    def __init__(
        self, limits: BatchLimits, cost: CostModel | None = None, work: CostModel | None = None
    ) -> None:
        """Prepare.

        Args:
            limits: the bounds.
            cost: what streams cost, as far as it is known.
            work: what the weight of inputs costs, as far as it is known.
        """
        self._limits = limits
        self._cost = cost or CostModel()
        self._work = work or CostModel()
        self._streams: dict[int, _Stream[T]] = {}
        # Streams with something queued, and since when; in the order in which they are served.
        self._ready: OrderedDict[int, float] = OrderedDict()
        # Streams whose last work is not done, although its batch is.
        self._held: set[int] = set()
        # Streams that the batch now forming still hopes for.
        self._awaited: set[int] = set()

    @property
    def cost(self) -> CostModel:
        """The running estimate of what a batch costs."""
        return self._cost

    def __len__(self) -> int:
        """Return how many streams are open."""
        return len(self._streams)

    def open(self, key: int) -> None:
        """Add a stream."""
        if key in self._streams:
            raise ValueError(f"stream {key} is open already")
        self._streams[key] = _Stream()

    def close(self, key: int) -> int:
        """Remove a stream; return how many of its inputs will never run. Idempotent."""
        stream = self._streams.pop(key, None)
        self._ready.pop(key, None)
        self._awaited.discard(key)
        self._held.discard(key)
        return len(stream.queue) if stream is not None else 0

    def put(
        self, key: int, item: T, now_s: float, *, weight: float = 1.0, force: bool = False
    ) -> bool:
        """Queue one input; return False if the stream's queue is full.

        Args:
            key: an open stream.
            item: the input.
            now_s: the time.
            weight: how much work it is, in a unit of the caller's.
            force: take it even into a full queue (the end of a segment must not get lost).
        """
        stream = self._streams[key]
        if len(stream.queue) >= self._limits.queue_limit and not force:
            return False
        stream.queue.append(_Queued(item, now_s, weight))
        stream.arrived(now_s)
        self._awaited.discard(key)
        if key not in self._ready and key not in self._held:
            self._make_ready(key, now_s)
        return True

    def hold(self, key: int) -> None:
        """Keep an open stream out of all batches: its last work goes on elsewhere."""
        self._held.add(key)
        self._ready.pop(key, None)
        self._awaited.discard(key)

    def release(self, key: int, now_s: float) -> None:
        """Let a held stream into batches again; harmless for one that was closed."""
        if key in self._held:
            self._held.remove(key)
            if self._streams[key].queue:
                self._make_ready(key, now_s)

    def close_at_s(self, now_s: float) -> float | None:
        """Return when the forming batch closes (now, if it should), or None if nothing waits."""
        if not self._ready:
            return None
        if not self._awaited or len(self._ready) >= self._limits.max_batch:
            return now_s
        return self._deadline_s()

    def take(self, now_s: float) -> Batch[T] | None:
        """Return the next batch whether or not it is due, or None if nothing waits."""
        if not self._ready:
            return None
        keys = [key for key, _ in zip(self._ready, range(self._limits.max_batch), strict=False)]
        taken = self._share(keys)
        backlog = False
        for key in keys:
            del self._ready[key]
            if self._streams[key].queue:
                self._ready[key] = now_s
                backlog = True
        self._awaited.clear()
        if self._ready and not backlog:
            # What waits behind a batch has waited enough: it is held back for nobody.
            self._await_company(now_s)
        weights = {key: sum(queued.weight for queued in inputs) for key, inputs in taken.items()}
        return Batch(
            items=tuple(
                (key, tuple(queued.item for queued in taken[key]))
                for key in sorted(keys, key=weights.__getitem__)
            ),
            oldest_s=min(inputs[0].since_s for inputs in taken.values()),
            weight=sum(weights.values()),
        )

    def done(self, batch: Batch[T], service_s: float) -> None:
        """Say what the last batch cost."""
        self._cost.observe(len(batch.items), service_s)
        self._work.observe(batch.weight, service_s)

    def _share(self, keys: list[int]) -> dict[int, list[_Queued[T]]]:
        """Take one input of each stream, then further ones by turns while time allows."""
        taken = {key: [self._streams[key].queue.popleft()] for key in keys}
        seconds = self._work.per_item_s
        left_s = self._limits.turn_s
        turns = deque(keys)
        while turns:
            key = turns.popleft()
            queue, inputs = self._streams[key].queue, taken[key]
            if not queue or len(inputs) >= self._limits.inputs_per_turn:
                continue
            cost_s = queue[0].weight * seconds
            if cost_s <= left_s:
                left_s -= cost_s
                inputs.append(queue.popleft())
                turns.append(key)
        return taken

    def _make_ready(self, key: int, now_s: float) -> None:
        forming = bool(self._ready)
        self._ready[key] = now_s
        if not forming:
            self._await_company(now_s)

    def _deadline_s(self) -> float:
        return next(iter(self._ready.values())) + self._limits.latency_budget_s

    def _await_company(self, now_s: float) -> None:
        if not self._sharing_pays():
            return
        deadline_s = self._deadline_s()
        self._awaited = {
            key
            for key, stream in self._streams.items()
            if key not in self._ready
            and key not in self._held
            and stream.expected_by(now_s, deadline_s)
        }

    def _sharing_pays(self) -> bool:
        return self._cost.fixed_s > _WORTHWHILE_SHARE * self._cost.per_item_s
