"""Tells the log and the dispatcher of a blocked event loop, while it is blocked and after."""

import logging
from collections.abc import Callable

from voxray.actors.contracts import LoopBlocked, LoopFreed, Report
from voxray.actors.loop_watch import Block, BlockThresholds, LoopWatch
from voxray.base.ids import JobId

logger = logging.getLogger(__name__)


def report_blocks(limits: BlockThresholds, report: Callable[[Report], None]) -> LoopWatch:
    """Return a watch of a loop that tells of its blocks; `report` is called on its thread."""

    def level(block: Block) -> int:
        return logging.ERROR if block.seconds >= limits.error_s else logging.WARNING

    def fields(block: Block) -> dict[str, object]:
        return {"job_id": block.owner, "seconds": round(block.seconds, 3)}

    def on_blocked(block: Block) -> None:
        logger.log(
            level(block),
            "the event loop is blocked, and every call on this host with it%s",
            "".join(f"\n  {line}" for line in block.stack),
            extra=fields(block),
        )
        report(
            LoopBlocked(
                job_id=_job_id(block), seconds=block.seconds, where=block.where, stack=block.stack
            )
        )

    def on_freed(block: Block) -> None:
        logger.log(level(block), "the event loop runs again", extra=fields(block))
        report(LoopFreed(job_id=_job_id(block), seconds=block.seconds))

    return LoopWatch(limits, on_blocked=on_blocked, on_freed=on_freed)


def _job_id(block: Block) -> JobId | None:
    return JobId(block.owner) if block.owner else None
