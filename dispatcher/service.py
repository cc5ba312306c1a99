"""The dispatcher put together: the core in the middle, LiveKit, the fleet and the API around it.

Everything happens on one event loop. Each input is handled to its end, commands included, before
the next one: the core needs no lock. `aclose` stops in this order: the API (nobody asks any more),
the timer and room checks, the websocket (LiveKit hears the last job updates), the fleet runner.
"""

import asyncio
import logging
import math
from collections.abc import Coroutine
from typing import Any

from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import InvalidTransitionError, VoxrayError
from voxray.base.ids import JobId
from voxray.base.lifecycle import TaskOwner
from voxray.base.settings import InferenceSettings, Settings
from voxray.base.timing import Clock
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.access import Access
from voxray.dispatcher.api_source import ApiSource, Identity
from voxray.dispatcher.call_spans import CallSpans
from voxray.dispatcher.connection import ConnectionEnded, WorkerEvent
from voxray.dispatcher.core import DispatcherCore
from voxray.dispatcher.dialing import DialOptions, proxy_for
from voxray.dispatcher.events_log import EventsLog
from voxray.dispatcher.failure_log import FailureLog
from voxray.dispatcher.fleet import FleetGateway
from voxray.dispatcher.fleet_runner import FleetRunner
from voxray.dispatcher.health import DispatcherApi
from voxray.dispatcher.kept import DrainTime
from voxray.dispatcher.messages import AvailabilityRequest
from voxray.dispatcher.peer_watch import PeerWatch
from voxray.dispatcher.peers import Peers, Question
from voxray.dispatcher.phases import Phase, PhaseBoard
from voxray.dispatcher.registration import Registration
from voxray.dispatcher.room_survey import RoomSurveyor, SurveyOrder
from voxray.dispatcher.rooms import RoomDirectory
from voxray.dispatcher.simulated import check_asked_only, simulated_job
from voxray.dispatcher.tokens import resign
from voxray.dispatcher.translation import input_of, intent_of
from voxray.observability import tracing
from voxray.observability.events import FanOut, LoopLag
from voxray.observability.loop_lag import LoopLagProbe
from voxray.observability.metrics import MetricsSink

logger = logging.getLogger(__name__)

# The id that livekit-agents gives a worker that never registers.
_UNREGISTERED = "unregistered"
# How long the end of an app can be read from its dispatcher, before that ends as well.
_LINGER_S = 15.0
# Addresses to listen on that are none to connect to.
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


class DispatcherService:
    """Runs one app's dispatcher on the event loop that starts it."""

    def __init__(
        self,
        settings: Settings,
        program: ProgramInfo,
        fleet: FleetGateway,
        *,
        access: Access,
        clock: Clock,
    ) -> None:
        """Put the parts together; nothing runs before `start`.

        Args:
            settings: of the whole app.
            program: what the user's program is.
            fleet: the gateway to hosts and replicas.
            access: who may ask, which dispatcher this is, and how the world is reached.
            clock: time for the core and the spans.
        """
        self._role = role = access.role
        self._access = access
        if role.port is not None:
            http = settings.http.model_copy(update={"port": role.port})
            settings = settings.model_copy(update={"http": http})
        self._settings = settings
        self._program = program
        self._clock = clock
        self._dial = self._dial_options(program)
        self._core = DispatcherCore(settings.hosts, settings.inference, program, clock, role=role)
        # Unregistered, as for `connect`, it would never hear the offers of what it asks for.
        if role.leads and settings.livekit.registered:
            self._core.search_rooms(settings.reconciler, alone=not role.others)
        self._phases = PhaseBoard(
            # The others take jobs without waiting for the first one's replicas.
            settings.inference if role.leads else InferenceSettings(groups=())
        )
        self._tracing = tracing.setup(settings.telemetry, role="dispatcher", app=settings.app)
        self._spans = CallSpans(self._tracing, clock)
        self._metrics = MetricsSink()
        self._log = EventsLog()
        self._events = FanOut(self._metrics, self._spans, self._log, self._phases, FailureLog())
        secret = settings.livekit.api_secret.get_secret_value()
        self._runner = FleetRunner(fleet, self._tell, lambda old: resign(old, secret))
        self._registration = Registration(
            settings.livekit,
            program,
            self._dial,
            self._worker_event,
            active_jobs=self._active_jobs,
        )
        self._rooms = RoomDirectory(settings.livekit, proxy=self._dial.proxy)
        self._surveyor = RoomSurveyor(
            settings.livekit,
            program,
            proxy=self._dial.proxy,
            confirm=self._registration.confirm,
        )
        identity = Identity(
            app=settings.app, node=access.node, index=role.index, api=self._api_address
        )
        self._peers = Peers(role.others, fleet.ask_dispatcher) if role.others else None
        self._drain_time = DrainTime(clock, access.kept)
        self._source = source = ApiSource(
            identity, self._core, self._runner, self._metrics, self._phases
        )
        source.on_drain(self.drain)
        source.on_simulate(self.simulate)
        self._api = DispatcherApi(
            settings.http, self._source, self._log, token=access.token, peers=self._peers
        )
        self._port = settings.http.port
        self._tasks = TaskOwner("dispatcher", self._failed)
        self._lag = LoopLagProbe(
            lambda lag: self._events.emit(LoopLag(process="dispatcher", seconds=lag))
        )
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._closed = False

    async def start(self) -> None:
        """Open the API, find what runs already, register at LiveKit.

        What makes a start impossible is shown as phase `failed` instead of raised: Ray would
        restart an actor whose constructor raises, for ever.
        """
        try:
            self._port = await self._api.start()
            self._phases.listening(f"http://{self._api_address()}")
            self._lag.start()
            await self._runner.find()
            self._go_on_draining()
            if self._peers is not None and self._role.leads:
                self._tasks.spawn("watch-peers", self._watch_peers(self._peers))
            if not self._role.leads:
                self._runner.follow_replicas()
            if self._settings.livekit.registered:
                await self._registration.start()
            else:
                self._tell(inp.WorkerRegistered(worker_id=_UNREGISTERED))
        except VoxrayError as error:
            self._fail(error)

    async def state(self, after: int, wait_s: float) -> dict[str, object]:
        """Return the phase as plain data, once its version differs from `after`."""
        return await self._phases.wait(after, wait_s)

    @property
    def idle(self) -> bool:
        """Whether there is no job at all."""
        return not self._core.totals().jobs

    async def answer(self, question: Question, argument: object) -> Any:
        """Answer another dispatcher of the app, about this one alone."""
        return self._source.answer(question, argument)

    def change_program(self, info: ProgramInfo, *, relaunch: bool = False) -> None:
        """Make a program, or a new version of it, the current one (see `inputs.ProgramChanged`).

        LiveKit hears of it when the program now registers as another one, or by another proxy.
        """
        self._program = info
        self._dial = self._dial_options(info)
        self._rooms.follow(self._dial.proxy)
        self._surveyor.follow(info, self._dial.proxy)
        self._tell(inp.ProgramChanged(program=info, relaunch=relaunch))
        other = self._registration.follow(info, self._dial)
        if other and self._settings.livekit.registered:
            self._tasks.spawn("register-anew", self._registration.begin_anew())

    async def simulate(self, room: str, identity: str) -> JobId:
        """Begin a job of our own in a room; return its id.

        Raises:
            ConfigError: LiveKit sends this app's agent there by itself.
            ConnectionFailedError: the room can't be opened at LiveKit.
        """
        check_asked_only(self._settings.livekit, self._program, room)
        item = await simulated_job(self._settings.livekit, room, identity, proxy=self._dial.proxy)
        self._tell(item)
        return item.job_id

    def drain(self, timeout_s: float | None = None) -> None:
        """Begin to drain; None takes the settings' timeout, or else the program's own."""
        configured = self._settings.drain_timeout_s or self._program.drain_timeout_s
        timeout_s = configured if timeout_s is None else timeout_s
        self._drains_for(timeout_s)
        self._tell(inp.Drain(timeout_s=timeout_s))

    def shutdown(self) -> None:
        """Begin to end everything now."""
        self._drains_for(0.0)
        self._tell(inp.ShutdownNow())

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        self._closed = True
        await self._api.aclose()
        self._lag.stop()
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.aclose()
        await self._registration.aclose()
        await self._rooms.aclose()
        await self._surveyor.aclose()
        await self._runner.aclose()
        await asyncio.to_thread(self._tracing.shutdown)

    def _dial_options(self, program: ProgramInfo) -> DialOptions:
        environment = self._access.environment
        return DialOptions(
            proxy=proxy_for(self._settings.livekit.url, environment, given=program.http_proxy),
            worker_token=environment.get("LIVEKIT_WORKER_TOKEN", ""),
        )

    def _drains_for(self, timeout_s: float) -> None:
        self._phases.draining()
        self._drain_time.begin(timeout_s)
        self._tasks.spawn("keep-drain", self._drain_time.keep())

    def _go_on_draining(self) -> None:
        """Go on with the drain of the dispatcher before us, if it had begun one."""
        if (left_s := self._drain_time.left_from_before_s()) is not None:
            self.drain(left_s)

    def _api_address(self) -> str:
        host = self._settings.http.host
        host = self._access.address if host in _EVERYWHERE else host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    def _tell(self, item: inp.Input) -> None:
        """Hand an input to the core, carry its commands out, and set the timer anew."""
        if self._closed:
            return
        try:
            for command in self._core.handle(item):
                self._carry_out(command)
        except InvalidTransitionError:
            # A bug of ours in one job; the others, and the host that reported it, go on.
            logger.exception("an input did not fit", extra={"input": type(item).__name__})
        finally:
            self._arm()

    def _carry_out(self, command: cmd.Command) -> None:
        match command:
            case cmd.AnswerAvailability() | cmd.UpdateWorker() | cmd.UpdateJob():
                if self._settings.livekit.registered:
                    self._registration.send(intent_of(command))
            case cmd.CheckRoom():
                self._tasks.spawn(f"check-room-{command.job_id}", self._check_room(command))
            case cmd.ListRooms() | cmd.ViewRoom() | cmd.CreateDispatch() | cmd.DeleteDispatch():
                self._tasks.spawn(type(command).__name__, self._survey(command))
            case cmd.EmitEvent(event=event):
                self._events.emit(event)
            case cmd.Drained():
                self._phases.drained()
                self._tasks.spawn("leave", self._leave())
            case _:
                self._runner.run(command)

    def _arm(self) -> None:
        due = self._core.next_deadline()
        # A tick that comes early costs less than a timer that is set anew with every input.
        if due is None or self._timer_due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        delay_s = max(0.0, due - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_due = None, math.inf
        self._tell(inp.Tick())

    def _worker_event(self, event: WorkerEvent) -> None:
        if isinstance(event, ConnectionEnded):
            self._connection_ended(event.error)
            return
        item = input_of(event, self._clock.wall(), self._settings.livekit.url, self._begin_trace)
        if item is not None:
            self._tell(item)

    def _connection_ended(self, error: VoxrayError) -> None:
        """LiveKit is out of reach for good: an app can't begin so, but one with calls goes on."""
        if self._phases.phase is Phase.STARTING:
            self._fail(error)
        else:
            self._tasks.spawn("reconnect", self._registration.try_again())

    def _begin_trace(self, request: AvailabilityRequest) -> str:
        return self._spans.offered(request.job_id, self._clock.wall())

    def _watch_peers(self, peers: Peers) -> Coroutine[Any, Any, None]:
        return PeerWatch(
            peers,
            self._phases,
            tell=self._tell,
            drain=self.drain,
            left_s=lambda: self._drain_time.left_s,
        ).run()

    def _fail(self, error: VoxrayError) -> None:
        """Show why nothing can begin or go on; what runs is ended once that could be read."""
        self._phases.failed(error)
        self._tasks.spawn("give-up", self._give_up())

    async def _give_up(self) -> None:
        await asyncio.sleep(_LINGER_S)
        self._tell(inp.ShutdownNow())

    async def _leave(self) -> None:
        await asyncio.sleep(_LINGER_S)
        if self._access.on_over is not None:
            self._access.on_over()

    def _active_jobs(self) -> tuple[JobId, ...]:
        return tuple(job.job_id for host in self._core.snapshot().hosts for job in host.jobs)

    async def _check_room(self, command: cmd.CheckRoom) -> None:
        answer = await self._rooms.look(command.room, command.identity)
        self._tell(inp.RoomChecked(job_id=command.job_id, answer=answer))

    async def _survey(self, order: SurveyOrder) -> None:
        answer = await self._surveyor.run(order)
        if answer is not None:
            self._tell(answer)

    def _failed(self, task: str, error: BaseException) -> None:
        logger.error("task failed", extra={"task": task}, exc_info=error)
