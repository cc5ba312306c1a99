"""The demo: a LiveKit server, the example deployed, and a caller that asks it questions.

The deployment is handed in, so that the same demo also runs against other workers.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from voxray.base.settings import LiveKitSettings, Settings
from voxray.cli.demo_view import DemoView
from voxray.cli.interrupts import Interrupts
from voxray.loadtest.access import LiveKitAccess, new_room_name
from voxray.loadtest.call import CallPlan, CallResult, run_call
from voxray.loadtest.example import example_program
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.questions import Question
from voxray.loadtest.recording import Recording
from voxray.loadtest.report import totals_json, turn_json
from voxray.loadtest.speech import SPEECH_RATE, speak_all
from voxray.loadtest.turns_api import TurnsApi

# The turn's record is written when the answer was said, and comes by way of the dispatcher.
_RECORD_WAIT_S = 3.0


class RunningAgent(Protocol):
    """What the demo has to know of a deployment (see `voxray.cli.deployment.Deployment`)."""

    @property
    def api_url(self) -> str | None:
        """The dispatcher's HTTP API; None where there is none."""
        ...

    @property
    def api_token(self) -> str:
        """What the API asks for beyond loopback."""
        ...

    @property
    def metrics_url(self) -> str | None:
        """The metrics page."""
        ...

    @property
    def dashboard_url(self) -> str | None:
        """Ray's dashboard."""
        ...


Deployer = Callable[
    [Path, Settings, Callable[[str], None]], AbstractAsyncContextManager[RunningAgent]
]
"""Runs a program while its context is open; the last argument is told how the start goes on."""


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """What a demo does.

    Attributes:
        settings: of the app; `livekit` is taken from it when `server` is None.
        server: program of the livekit-server to start; None uses the one in `settings`.
        keep: stay up after the last question until a signal.
        on_result: told the result before the demo stays up or ends.
    """

    settings: Settings
    server: Path | None
    questions: tuple[Question, ...]
    seed: int | None
    record: Path
    keep: bool
    on_result: Callable[["DemoResult"], None]


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """How a demo went."""

    call: CallResult
    seed: int | None
    recording: Path
    addresses: Mapping[str, str | None]

    @property
    def ok(self) -> bool:
        """Whether every question was understood and answered with the right facts."""
        turns = self.call.turns
        return len(turns) == self.call.asked and all(t.understood and t.correct for t in turns)

    def to_json(self) -> dict[str, Any]:
        """Return the object of `voxray demo --json`."""
        joined = self.call.joined
        return {
            "ok": self.ok,
            "error": self.call.error,
            "seed": self.seed,
            "turns": [turn_json(turn) for turn in self.call.turns],
            "totals": totals_json(self.call.turns, self.call.asked),
            "join": {
                "agent_joined_s": None if joined is None else round(joined.agent_joined_s, 4),
                "agent_audible_s": None if joined is None else round(joined.agent_audible_s, 4),
            },
            "addresses": dict(self.addresses),
            "recording": str(self.recording),
        }


async def run_demo(
    plan: DemoPlan, deploy: Deployer, view: DemoView, interrupts: Interrupts
) -> DemoResult:
    """Bring everything up, make the call, and take everything down again, whatever happens.

    Raises:
        VoxrayError: a part did not start.
    """
    async with AsyncExitStack() as stack:
        livekit = await stack.enter_async_context(_livekit(plan, view))
        settings = plan.settings.model_copy(update={"livekit": livekit})
        with view.step("Ray and the agent of examples/timetable") as say:

            def tell(detail: str) -> None:
                # Ray puts a handler of its own on SIGTERM, which would end us without clean-up.
                interrupts.listen()
                say(detail)

            agent = await stack.enter_async_context(deploy(example_program(), settings, tell))
        interrupts.listen()
        addresses = {
            "livekit": livekit.url,
            "metrics": agent.metrics_url,
            "dashboard": agent.dashboard_url,
            "api": agent.api_url,
        }
        view.addresses(addresses)
        access = LiveKitAccess(
            url=livekit.url,
            api_key=livekit.api_key,
            api_secret=livekit.api_secret.get_secret_value(),
        )
        call = await _call(plan, access, agent, view)
        result = DemoResult(
            call=call, seed=plan.seed, recording=plan.record.absolute(), addresses=addresses
        )
        _close(result, view)
        plan.on_result(result)
        if plan.keep:
            _tell_how_to_call_in(access, view)
            await interrupts.wait()
        view.say("taking everything down")
    return result


@asynccontextmanager
async def _livekit(plan: DemoPlan, view: DemoView) -> AsyncIterator[LiveKitSettings]:
    if plan.server is None:
        yield plan.settings.livekit
        return
    server = LiveKitServer(plan.server)
    try:
        with view.step("livekit-server on loopback"):
            await server.start()
        yield LiveKitSettings(
            url=server.url, api_key=server.api_key, api_secret=SecretStr(server.api_secret)
        )
    finally:
        await server.stop()


async def _call(
    plan: DemoPlan, access: LiveKitAccess, agent: RunningAgent, view: DemoView
) -> CallResult:
    room = new_room_name("demo")
    recording = Recording(SPEECH_RATE)
    async with AsyncExitStack() as stack:
        api: TurnsApi | None = None
        if agent.api_url is not None:
            api = await stack.enter_async_context(
                TurnsApi(agent.api_url, room, token=agent.api_token)
            )
        call = CallPlan(
            access=access,
            room=room,
            questions=plan.questions,
            speech=await speak_all(question.say for question in plan.questions),
            recording=recording,
            inside=None if api is None else lambda: api.next_turn(_RECORD_WAIT_S),
        )
        try:
            return await run_call(call, view)
        finally:
            # Of a call that went wrong, too: it is the best evidence.
            recording.write(plan.record)


def _close(result: DemoResult, view: DemoView) -> None:
    view.closing(result.call.turns)
    if result.call.error:
        view.say(f"the call ended early: {result.call.error}")
    view.addresses(dict(result.addresses))
    view.say(f"recording: {result.recording} (caller left, agent right)")
    right = sum(turn.understood and turn.correct for turn in result.call.turns)
    view.say(f"{right} of {result.call.asked} questions understood and answered right")


def _tell_how_to_call_in(access: LiveKitAccess, view: DemoView) -> None:
    room = new_room_name("call")
    token = access.caller_token(room, f"guest-{secrets.token_hex(3)}")
    view.say(
        "\nStill up. To call in, give a LiveKit client (for example the custom tab of "
        "meet.livekit.io) this address and token, which is good for an hour:\n"
        f"  {access.url}\n  {token}\nCtrl-C ends the demo."
    )
