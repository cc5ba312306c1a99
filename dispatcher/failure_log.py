"""Writes starts that failed into the dispatcher's log: the first of its kind whole, then counts."""

import logging

from voxray.observability.events import Event, HostStartFailed

logger = logging.getLogger(__name__)


class FailureLog:
    """An `EventSink`."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        if not isinstance(event, HostStartFailed):
            return
        if event.repeats > 1:
            logger.info(
                "a host did not start, as before",
                extra={"host_id": event.host_id, "repeats": event.repeats},
            )
            return
        where = "".join(f"\n  {line}" for line in event.details)
        logger.error("a host did not start: %s%s", event.reason, where)
