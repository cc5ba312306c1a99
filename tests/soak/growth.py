"""Whether a process grows: a line fitted through samples, beside their noise."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psutil

MIB = 1024 * 1024
# What the allocator may still add after hundreds of calls without anything being kept: pages that
# were freed in pieces. A call that is kept whole costs 3.6 MiB or more.
ALLOCATOR_MIB = 0.03


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A process after so many calls."""

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
        grown_mib: what that makes over the line.
        noise_mib: standard deviation of the samples from the line.
        threads, files: the least at the beginning and at the end of the line.
    """

    first: int
    last: int
    slope_mib: float
    grown_mib: float
    noise_mib: float
    threads: tuple[int, int]
    files: tuple[int, int]

    @property
    def flat(self) -> bool:
        """Whether the growth is not more than noise, or than the allocator's own."""
        return self.grown_mib <= 3 * self.noise_mib or self.slope_mib <= ALLOCATOR_MIB

    def to_json(self) -> dict[str, object]:
        """Return the figures, rounded, and the verdict."""
        figures = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return {**figures, "flat": self.flat}


def sample(pid: int, calls: int) -> Sample:
    """Look at a process."""
    process = psutil.Process(pid)
    return Sample(
        calls=calls,
        rss_mib=process.memory_info().rss / MIB,
        threads=process.num_threads(),
        files=process.num_fds(),
    )


def fit(samples: Sequence[Sample], *, after: int) -> Growth:
    """Fit a line through the samples that come after so many calls; two at least."""
    chosen = [each for each in samples if each.calls >= after]
    calls, sizes = [each.calls for each in chosen], [each.rss_mib for each in chosen]
    slope, start = statistics.linear_regression(calls, sizes)
    rest = [size - (start + slope * at) for at, size in zip(calls, sizes, strict=True)]
    third = max(1, len(chosen) // 3)
    return Growth(
        first=calls[0],
        last=calls[-1],
        slope_mib=slope,
        grown_mib=slope * (calls[-1] - calls[0]),
        noise_mib=statistics.pstdev(rest),
        threads=(min(e.threads for e in chosen[:third]), min(e.threads for e in chosen[-third:])),
        files=(min(e.files for e in chosen[:third]), min(e.files for e in chosen[-third:])),
    )
