"""Whether a process grows: a line through samples, with the confidence that they allow."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import psutil

MIB = 1024 * 1024
LIMIT_MIB = 0.1
"""What a call may add. livekit.rtc's native part keeps 0.03 MiB a call of its own (found by tracing
its allocations in a host); the rest is for pages that were freed in pieces. A call that is kept
whole adds 3.6 MiB or more, a native track that was still published when the server closed its room
0.85 MiB, an audio stream that nobody closed 0.44 MiB: one such call in five is a fault."""
COUNT_LIMIT = 8
"""Threads or files that a process may have more than before: pools fill late."""

# Student's t, 95 % one-sided, by degrees of freedom; beyond the last the normal quantile is near.
_T = (
    6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
    1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725,
)  # fmt: skip
_T_MANY = 1.70


class Verdict(StrEnum):
    """What a line says of a process."""

    FLAT = "flat"
    GROWS = "grows"
    UNCLEAR = "unclear"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A process after so many calls, seen from outside."""

    calls: int
    rss_mib: float
    threads: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What a line through samples says.

    Attributes:
        first, last: calls at the ends of the line.
        slope_mib: MiB that a call adds, by the line.
        error_mib: how far the slope may be off, either way, each with 95 % confidence.
        noise_mib: standard deviation of the samples from the line.
    """

    first: int
    last: int
    slope_mib: float
    error_mib: float
    noise_mib: float

    @property
    def verdict(self) -> Verdict:
        """FLAT when surely not over the limit, GROWS when surely over it."""
        if self.slope_mib + self.error_mib <= LIMIT_MIB:
            return Verdict.FLAT
        if self.slope_mib - self.error_mib > LIMIT_MIB:
            return Verdict.GROWS
        return Verdict.UNCLEAR

    def to_json(self) -> dict[str, object]:
        """Return the figures, rounded, and the verdict."""
        figures = {
            name: (round(value, 4) if math.isfinite(value) else None)
            if isinstance(value, float)
            else value
            for name, value in asdict(self).items()
        }
        return {**figures, "limit_mib": LIMIT_MIB, "verdict": str(self.verdict)}


def sample(pid: int, calls: int) -> Sample:
    """Look at a process."""
    process = psutil.Process(pid)
    return Sample(
        calls=calls,
        rss_mib=process.memory_info().rss / MIB,
        threads=process.num_threads(),
        files=process.num_fds(),
    )


def fit(points: Sequence[tuple[int, float]], *, after: int) -> Growth:
    """Fit a line through (calls, MiB) that come after so many calls; two at least.

    Two points say nothing of their noise: the slope may be anything then.
    """
    chosen = [point for point in points if point[0] >= after]
    calls, sizes = [at for at, _ in chosen], [size for _, size in chosen]
    slope, start = statistics.linear_regression(calls, sizes)
    rest = [size - (start + slope * at) for at, size in chosen]
    freedom = len(chosen) - 2
    mean = statistics.fmean(calls)
    spread = sum((at - mean) ** 2 for at in calls)
    error = math.inf
    if freedom > 0:
        quantile = _T[freedom - 1] if freedom <= len(_T) else _T_MANY
        error = quantile * (sum(each**2 for each in rest) / freedom / spread) ** 0.5
    return Growth(
        first=calls[0],
        last=calls[-1],
        slope_mib=slope,
        error_mib=error,
        noise_mib=statistics.pstdev(rest),
    )


def counts(samples: Sequence[Sample], *, after: int) -> dict[str, tuple[int, int]]:
    """Return the least threads and files at the beginning and at the end of what comes after."""
    chosen = [each for each in samples if each.calls >= after]
    third = max(1, len(chosen) // 3)
    begin, end = chosen[:third], chosen[-third:]
    return {
        "threads": (min(each.threads for each in begin), min(each.threads for each in end)),
        "files": (min(each.files for each in begin), min(each.files for each in end)),
    }


def count_faults(role: str, least: dict[str, tuple[int, int]]) -> list[str]:
    """Return what there is more of than pools explain."""
    return [
        f"{role} has more {what}: {before} before, {after} now"
        for what, (before, after) in least.items()
        if after - before > COUNT_LIMIT
    ]
