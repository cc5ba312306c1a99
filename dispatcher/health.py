"""The dispatcher's HTTP API: health, metrics, status, jobs, stories, turns, events, drain."""

import errno
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web
from google.protobuf.json_format import MessageToJson
from livekit.protocol import agent, agent_worker

from voxray.base.addresses import is_loopback
from voxray.base.errors import ConfigError, PortTakenError
from voxray.base.ids import JobId
from voxray.base.settings import HttpSettings
from voxray.dispatcher.api_guard import bad_request, guard, json_error, read_json
from voxray.dispatcher.events_log import EventsLog
from voxray.dispatcher.merging import merge_status, merge_targets
from voxray.dispatcher.peers import PeerAnswer, Peers, Question

LONGEST_WAIT_S = 60.0
"""How long a question for events may stay open."""
WORKER_PROTOCOL_VERSION = 1
"""`WORKER_PROTOCOL_VERSION` of livekit-agents."""

_CLOSE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class WorkerSummary:
    """What `/worker` tells, as the stock worker does.

    Attributes:
        worker_type: LiveKit's `JobType`, as its number.
        load: as told to LiveKit, 0 to 1.
    """

    agent_name: str
    worker_type: int
    active_jobs: int
    sdk_version: str
    load: float


@dataclass(frozen=True, kw_only=True)
class ScrapeTarget:
    """A metrics page, `host:port`, and the labels that Prometheus gives what it reads there."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as Prometheus's HTTP service discovery reads it."""
        return {"targets": [self.address], "labels": dict(self.labels)}


class DispatcherSource(Protocol):
    """Where the API's answers come from. Every method answers at once, on the event loop."""

    def unhealthy(self) -> str:
        """Return why this process should be restarted, or an empty string."""
        ...

    def unready(self) -> str:
        """Return why no job would be taken now, or an empty string."""
        ...

    def worker(self) -> WorkerSummary:
        """Return what `/worker` tells."""
        ...

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics page and its content type, as an `Accept` header asks."""
        ...

    def scrape_targets(self) -> Sequence[ScrapeTarget]:
        """Return the metrics pages of all processes of the app."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return what `/status` answers (docs/status.md)."""
        ...

    def story(self, job_id: JobId) -> Sequence[Mapping[str, Any]] | None:
        """Return the story of a job, oldest entry first, or None for an unknown one."""
        ...

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        """Return the live jobs, oldest first, then the last that ended (docs/status.md)."""
        ...

    async def simulate(self, room: str, identity: str) -> JobId:
        """Begin a job in a room that LiveKit did not ask for; the one method that takes a while.

        Raises:
            VoxrayError: no job can be begun, or the room can't be opened.
        """
        ...

    def drain(self, timeout_s: float | None) -> None:
        """Begin to drain; None waits as long as the settings say."""
        ...


class DispatcherApi:
    """Serves the API from `start` to `aclose`."""

    def __init__(
        self,
        settings: HttpSettings,
        source: DispatcherSource,
        log: EventsLog,
        *,
        token: str = "",
        peers: Peers | None = None,
    ) -> None:
        """Prepare the server.

        Args:
            settings: where it listens.
            source: what it answers.
            log: the events and turns that it hands out; closed with the server.
            token: what is asked for when others than this machine reach it.
            peers: the app's other dispatchers, whose answers belong to ours.
        """
        self._settings = settings
        self._source = source
        self._log = log
        self._token = token
        self._peers = peers
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; return the port.

        Raises:
            PortTakenError: another program listens there.
            ConfigError: it can't be listened there, or others would reach it without a token.
        """
        host, port = self._settings.host, self._settings.port
        open_access = is_loopback(host)
        if not open_access and not self._token:
            raise ConfigError(
                f"http.host {host} lets other machines in, but there is no token to ask them for"
            )
        app = web.Application(middlewares=[guard(token=self._token, open_access=open_access)])
        app.add_routes(self._routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise _no_listening(error, host, port) from error
        self._runner = runner
        return int(runner.addresses[0][1])

    async def aclose(self) -> None:
        """Let waiting clients go and stop. Idempotent and safe before start."""
        self._log.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._health),
            web.get("/healthz", self._health),
            web.get("/readyz", self._ready),
            web.get("/worker", self._worker),
            web.get("/metrics", self._metrics),
            web.get("/sd", self._service_discovery),
            web.get("/status", self._status),
            web.get("/jobs", self._jobs),
            web.post("/jobs", self._simulate),
            web.get("/jobs/{job_id}/story", self._story),
            web.get("/turns", self._turns),
            web.get("/events", self._events),
            web.post("/drain", self._drain),
        ]

    async def _health(self, _: web.Request) -> web.Response:
        reason = self._source.unhealthy()
        return web.Response(status=503, text=reason) if reason else web.Response(text="OK")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._source.unready()
        return web.Response(status=503, text=reason) if reason else web.Response(text="OK")

    async def _worker(self, _: web.Request) -> web.Response:
        summary = self._source.worker()
        info = agent_worker.WorkerInfo(
            worker_type=_job_type_name(summary.worker_type),
            agent_name=summary.agent_name,
            active_jobs=summary.active_jobs,
            sdk_version=summary.sdk_version,
            worker_load=summary.load,
            protocol_version=WORKER_PROTOCOL_VERSION,
        )
        body = MessageToJson(info, preserving_proto_field_name=True)
        return web.Response(text=body, content_type="application/json")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._source.metrics(request.headers.get("Accept", ""))
        # The content type carries parameters, which `content_type=` would refuse.
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _service_discovery(self, _: web.Request) -> web.Response:
        own = [target.to_json() for target in self._source.scrape_targets()]
        return web.json_response(merge_targets(own, await self._ask(Question.TARGETS)))

    async def _status(self, _: web.Request) -> web.Response:
        own = dict(self._source.status())
        if self._peers is not None:
            own = merge_status(own, await self._ask(Question.STATUS))
        return web.json_response(own)

    async def _jobs(self, _: web.Request) -> web.Response:
        others = [each.content or () for each in await self._ask(Question.JOBS)]
        jobs = [dict(job) for jobs in (self._source.jobs(), *others) for job in jobs]
        return web.json_response({"jobs": jobs})

    async def _simulate(self, request: web.Request) -> web.Response:
        body = read_json(await request.read())
        if unknown := body.keys() - {"room", "identity"}:
            raise bad_request(f"unknown in the body: {', '.join(sorted(unknown))}")
        room, identity = body.get("room"), body.get("identity", "")
        if not isinstance(room, str) or not room or not isinstance(identity, str):
            raise bad_request('the body must be {"room": NAME}, and may hold an "identity"')
        return web.json_response({"job": await self._source.simulate(room, identity)}, status=202)

    async def _story(self, request: web.Request) -> web.Response:
        job_id = JobId(request.match_info["job_id"])
        story = self._source.story(job_id)
        if story is None:
            told = (each.content for each in await self._ask(Question.STORY, job_id))
            story = next((each for each in told if each), None)
        if story is None:
            return json_error(404, f"job {job_id} is unknown here, or ended long ago")
        return web.json_response({"job": job_id, "story": [dict(entry) for entry in story]})

    async def _ask(self, question: Question, argument: object = None) -> list[PeerAnswer]:
        return [] if self._peers is None else await self._peers.ask(question, argument)

    async def _turns(self, request: web.Request) -> web.Response:
        _check_parameters(request, {"room", "after"})
        records = self._log.turns(request.query.get("room", ""), _cursor(request))
        return web.json_response([record.to_json() for record in records])

    async def _events(self, request: web.Request) -> web.Response:
        _check_parameters(request, {"after", "wait"})
        wait_s = _seconds(request.query.get("wait", "0"), "wait")
        page = await self._log.wait(_cursor(request), min(wait_s, LONGEST_WAIT_S))
        return web.json_response(
            {"cursor": page.cursor, "events": [record.to_json() for record in page.records]}
        )

    async def _drain(self, request: web.Request) -> web.Response:
        body = read_json(await request.read())
        if unknown := body.keys() - {"deadline_s"}:
            raise bad_request(f"unknown in the body: {', '.join(sorted(unknown))}")
        given = body.get("deadline_s")
        deadline_s = None if given is None else _seconds(given, "deadline_s")
        self._source.drain(deadline_s)
        # One that does not answer now is told by the first dispatcher once it does.
        await self._ask(Question.DRAIN, deadline_s)
        return web.json_response({"state": "draining"}, status=202)


def _check_parameters(request: web.Request, known: set[str]) -> None:
    if unknown := set(request.query) - known:
        raise bad_request(
            f"unknown parameter: {', '.join(sorted(unknown))}; "
            f"{request.path} takes {', '.join(sorted(known))}"
        )


def _cursor(request: web.Request) -> int:
    text = request.query.get("after", "0")
    # Longer ones are no cursors of ours, and Python refuses to read the longest.
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise bad_request("after must be a cursor that /events or /turns gave, or 0")
    return int(text)


def _seconds(value: object, name: str) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # Whatever it is, a TypeError says so.
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise bad_request(f"{name} must be a number of seconds, 0 or more")
    return seconds


def _job_type_name(worker_type: int) -> str:
    for name, number in agent.JobType.items():
        if number == worker_type:
            return name
    return str(worker_type)


def _no_listening(error: OSError, host: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"port {port} on {host} is in use; set http.port (0 takes a free one)"
        )
    return ConfigError(
        f"can't listen on port {port} of {host}: {error.strerror or error}; "
        "set http.host and http.port"
    )
