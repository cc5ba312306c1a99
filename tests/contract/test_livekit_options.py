"""Options of a program that change nothing under voxray are known by their names."""

import pytest
from livekit.agents import AgentServer, JobContext, JobExecutorType, WorkerOptions
from livekit.agents.worker import ServerEnvOption

from voxray.actors import livekit_compat as compat
from voxray.actors.livekit_options import unapplied_options


async def entrypoint(ctx: JobContext) -> None: ...


def given(server: AgentServer) -> tuple[str, ...]:
    server.rtc_session(entrypoint)
    return compat.read_info(server, "agent.py").unapplied_options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("host", "0.0.0.0"),
        ("port", 9555),
        ("port", ServerEnvOption(dev_default=0, prod_default=9555)),
        ("prometheus_port", 9556),
        ("prometheus_multiproc_dir", "/tmp/metrics"),
        ("job_executor_type", JobExecutorType.THREAD),
        ("num_idle_processes", 3),
        ("multiprocessing_context", "spawn"),
        ("preload_modules", ["json"]),
        ("load_threshold", 0.2),
    ],
)
def test_an_option_that_changes_nothing_is_named(option: str, value: object) -> None:
    assert given(AgentServer(**{option: value})) == (option,)
    options = WorkerOptions(entrypoint_fnc=entrypoint, **{option: value})
    server = AgentServer.from_server_options(options)
    assert compat.read_info(server, "agent.py").unapplied_options == (option,)


def test_what_is_applied_is_not_named() -> None:
    assert given(AgentServer()) == ()
    plain = AgentServer.from_server_options(WorkerOptions(entrypoint_fnc=entrypoint))
    assert unapplied_options(plain, has_load_fnc=False) == ()
    # With a load of the program's own the threshold counts.
    full = AgentServer(
        load_fnc=lambda: 0.1, load_threshold=0.2, drain_timeout=5, max_retry=3, log_level="WARN"
    )
    assert given(full) == ()
