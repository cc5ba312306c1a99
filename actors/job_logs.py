"""Whose code runs: the job of the context, on every log line that it writes and in inference."""

import logging

from livekit.agents import get_job_context


class JobFields(logging.Filter):
    """Sets `job_id`, `room`, `room_id` and `agent_name` on the records of a job.

    A stock worker sets them as the lines of a job's process arrive; here the context tells whose
    they are, also in tasks and in threads that `asyncio.to_thread` uses.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the fields; pass every record."""
        context = get_job_context(required=False)
        if context is not None:
            job = context.job
            record.job_id, record.room, record.room_id = job.id, job.room.name, job.room.sid
            if job.agent_name:
                record.agent_name = job.agent_name
        return True


def mark_lines_of_jobs() -> None:
    """Let this process's log handlers, as they are now, set the fields."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(JobFields())


def current_job() -> str:
    """Return the id of the job whose code calls, or an empty string."""
    context = get_job_context(required=False)
    return "" if context is None else context.job.id
