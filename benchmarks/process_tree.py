"""Memory and CPU of a process and everything below it, read from the kernel's counters."""

import asyncio
import contextlib
from dataclasses import dataclass, field

import psutil

_MIB = 1024 * 1024
_INTERVAL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One look at a tree.

    Attributes:
        pss_mib: proportional set size: pages shared between processes are counted once in all.
        cpu_s: CPU seconds since the tree's start, of processes that ended included as far as
            their parents reaped them.
        processes: how many there are.
    """

    pss_mib: float
    cpu_s: float
    processes: int


def look(pid: int) -> Usage:
    """Read the tree below `pid`, itself included.

    Raises:
        psutil.NoSuchProcess: `pid` is gone.
    """
    root = psutil.Process(pid)
    pss = cpu = 0.0
    count = 0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            times = process.cpu_times()
            pss += process.memory_full_info().pss / _MIB
            # The children's times hold those that have ended and were waited for; live ones are
            # in the list themselves.
            cpu += times.user + times.system + times.children_user + times.children_system
            count += 1
    return Usage(pss_mib=pss, cpu_s=cpu, processes=count)


@dataclass
class Sampler:
    """Looks at a tree while something runs, and keeps the highest memory."""

    pid: int
    samples: list[Usage] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Sampler":
        self.samples.append(await asyncio.to_thread(look, self.pid))
        self._task = asyncio.create_task(self._run(), name="sampler")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.samples.append(await asyncio.to_thread(look, self.pid))

    @property
    def cpu_s(self) -> float:
        """CPU seconds spent between the first and the last look."""
        return self.samples[-1].cpu_s - self.samples[0].cpu_s

    @property
    def peak_mib(self) -> float:
        """Highest memory that was seen."""
        return max(sample.pss_mib for sample in self.samples)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            self.samples.append(await asyncio.to_thread(look, self.pid))
