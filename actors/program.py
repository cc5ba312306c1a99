"""A user's program as a session host runs it: its functions, its options, its prewarm."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from livekit.agents import AgentServer, JobContext, JobExecutorType, JobProcess, JobRequest

from voxray.actors.contracts import ProgramInfo

Entrypoint: TypeAlias = Callable[[JobContext], Awaitable[None]]


class InferenceExecutor(Protocol):
    """Runs the models that plugins registered as inference runners (turn detectors)."""

    async def do_inference(self, method: str, data: bytes) -> bytes | None:
        """Run one request of a runner."""
        ...


class InferenceRunner(Protocol):
    """A model that a plugin registered; made without arguments."""

    def initialize(self) -> None:
        """Load the model."""
        ...

    def run(self, data: bytes) -> bytes | None:
        """Work on one request; blocks."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProgramHooks:
    """The functions that a program registered at its AgentServer.

    Attributes:
        entrypoint: run once a job.
        request_fnc: decides about offers; None accepts all.
        setup_fnc: the prewarm function; None if there is none.
        session_end_fnc: run as a job ends, before its shutdown callbacks.
        simulation_end_fnc: run as a simulated job ends.
        load_fnc: the program's own load, 0 to 1; None if it has none. May block.
        session_end_timeout_s: bound of `session_end_fnc`.
        http_proxy: proxy of the jobs' HTTP sessions, or empty.
    """

    entrypoint: Entrypoint
    request_fnc: Callable[[JobRequest], Awaitable[None]] | None = None
    setup_fnc: Callable[[JobProcess], Any] | None = None
    session_end_fnc: Callable[[JobContext], Awaitable[None]] | None = None
    simulation_end_fnc: Callable[[Any], Any] | None = None
    load_fnc: Callable[[], float] | None = None
    session_end_timeout_s: float = 300.0
    http_proxy: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerConnection:
    """Address and keys as the AgentServer has them: given to it, or from the environment."""

    url: str
    api_key: str
    api_secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LoadedProgram:
    """A program that was imported.

    Attributes:
        server: its AgentServer.
        hooks: the functions it registered.
        info: what the dispatcher has to know of it.
        connection: address and keys that it gave its server, or loaded into the environment.
    """

    server: AgentServer
    hooks: ProgramHooks
    info: ProgramInfo
    connection: ServerConnection


def prewarm(hooks: ProgramHooks, *, isolated: bool = False) -> dict[str, Any]:
    """Run the program's `setup_fnc`; return the `userdata` it filled.

    Call it on the main thread: plugins insist on registering there.

    Args:
        hooks: the program's functions.
        isolated: its jobs have their processes for themselves.
    """
    process = JobProcess(
        executor_type=JobExecutorType.PROCESS if isolated else JobExecutorType.THREAD,
        user_arguments=None,
        http_proxy=hooks.http_proxy or None,
    )
    if hooks.setup_fnc is not None:
        hooks.setup_fnc(process)
    return process.userdata
