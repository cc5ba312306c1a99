"""Nothing that others can read shows a secret: output, logs, `ps`, metrics, APIs, Ray's pages."""

import re
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.integration.test_host_killed import live_call
from tests.running_app import PROGRAMS, RunningApp, voxray_app
from voxray.base.app_token import app_token
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)

OUR_PAGES = (
    "/",
    "/healthz",
    "/readyz",
    "/worker",
    "/metrics",
    "/sd",
    "/status",
    "/turns",
    "/events",
)
RAY_PAGES = (
    "/api/version",
    "/api/cluster_status",
    "/api/jobs/",
    "/api/component_activities",
    "/api/gcs_healthz",
    "/nodes?view=summary",
    "/nodes?view=hostNameList",
    "/logical/actors",
    "/events",
    *(
        f"/api/v0/{kind}?detail=1&limit=1000"
        for kind in (
            "actors",
            "jobs",
            "nodes",
            "objects",
            "placement_groups",
            "runtime_envs",
            "tasks",
            "workers",
            "cluster_events",
        )
    ),
    "/api/v0/tasks/summarize",
    "/api/v0/actors/summarize",
    "/api/v0/objects/summarize",
)
# A token of LiveKit: three parts in base64url, the first an object.
JOB_TOKEN = re.compile(rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}")


class Secrets:
    """What must be seen nowhere."""

    def __init__(self, server: LiveKitServer, ray_token: str) -> None:
        self.values = {
            "api secret": server.api_secret.encode(),
            "api key": server.api_key.encode(),
            "app token": app_token("voxray", server.api_secret).encode(),
            "ray token": ray_token.encode(),
            "a key of the program": PROGRAM_KEY.encode(),
        }

    def found_in(self, where: str, content: bytes) -> list[str]:
        found = [f"{name} in {where}" for name, value in self.values.items() if value in content]
        return [*found, *([f"a job token in {where}"] if JOB_TOKEN.search(content) else [])]


PROGRAM_KEY = "sk-program-4711-0815"


async def our_pages(app: RunningApp, session: aiohttp.ClientSession) -> dict[str, bytes]:
    status = await app.status()
    (job,) = [job for host in status["hosts"] for job in host["jobs"]]
    pages = {path: f"{app.api}{path}" for path in (*OUR_PAGES, f"/jobs/{job['id']}/story")}
    for target in await app.get("/sd"):
        pages[f"metrics of {target['labels']['role']}"] = f"http://{target['targets'][0]}/metrics"
    return {name: await read(session, url) for name, url in pages.items()}


async def ray_pages(dashboard: str, session: aiohttp.ClientSession) -> dict[str, bytes]:
    pages = {path: await read(session, f"{dashboard}{path}") for path in RAY_PAGES}
    actors = re.findall(rb'"actorId": ?"([0-9a-f]+)"', pages["/logical/actors"])
    nodes = set(re.findall(rb'"nodeId": ?"([0-9a-f]{56})"', pages["/nodes?view=summary"]))
    for path in (
        *(f"/logical/actors/{each.decode()}" for each in actors),
        *(f"/nodes/{each.decode()}" for each in nodes),
        *(f"/api/v0/logs?node_id={each.decode()}" for each in nodes),
    ):
        pages[path] = await read(session, f"{dashboard}{path}")
    assert b"dispatcher" in pages["/logical/actors"]
    assert any(path.startswith("/logical/actors/") for path in pages)
    assert any(path.startswith("/nodes/") for path in pages)
    return pages


async def read(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as response:
        assert response.status in {200, 404}, (url, response.status, await response.text())
        return await response.read()


def process_tables(family: list[psutil.Process]) -> dict[str, bytes]:
    """What `ps` shows of every process, and the environment of those that are Ray's own."""
    seen = {}
    for process in family:
        arguments = " ".join(process.cmdline())
        name = f"{process.pid} {arguments[:60]}"
        seen[f"arguments of {name}"] = arguments.encode()
        if process.pid != family[0].pid:
            seen[f"environment of {name}"] = Path(f"/proc/{process.pid}/environ").read_bytes()
    return seen


def session_files(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "auth_token"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


async def test_no_secret_is_seen(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    # Given on the command line, the worst place.
    arguments = (
        "--api-secret",
        livekit_server.api_secret,
        f"--api-key={livekit_server.api_key}",
        "--log-level",
        "DEBUG",
    )
    environment = {
        "VOXRAY_RAY__DASHBOARD": "true",
        "LIVEKIT_API_SECRET": "",
        "LIVEKIT_API_KEY": "",
        "SOME_PROVIDER_API_KEY": PROGRAM_KEY,
    }
    async with voxray_app(
        livekit_server,
        tmp_path,
        PROGRAMS / "ungreeting.py",
        *arguments,
        environment=environment,
    ) as app:
        await app.until_said("its token")
        token_file = Path(said(app, r"its token +in (\S+)"))
        dashboard = said(app, r"ray dashboard +(\S+)")
        ray_token = token_file.read_text()
        assert token_file.stat().st_mode & 0o777 == 0o600
        secrets = Secrets(livekit_server, ray_token)
        bearer = {"Authorization": f"Bearer {ray_token}"}
        async with (
            live_call(livekit_server, room_name),
            aiohttp.ClientSession() as nobody,
            aiohttp.ClientSession(headers=bearer) as user,
        ):
            seen = {
                **await our_pages(app, nobody),
                **await ray_pages(dashboard, user),
                **process_tables(app.processes()),
            }
            # Ray asks whoever comes without its token.
            async with nobody.get(f"{dashboard}/logical/actors") as response:
                assert response.status in {401, 403}
        seen |= session_files(token_file.parent)
        assert any("dispatcher" in name or "worker-" in name for name in seen), "its logs are there"
    seen["output"] = app.log.read_bytes()
    leaks = [leak for where, content in seen.items() for leak in secrets.found_in(where, content)]
    assert not leaks
    assert not token_file.exists()


def said(app: RunningApp, pattern: str) -> str:
    found = re.search(pattern, app.output)
    assert found, app.output
    return found[1]


def test_the_check_would_see_a_secret(livekit_server: LiveKitServer) -> None:
    secrets = Secrets(livekit_server, "ray-token")
    job_token = b"eyJhbGciOiJIUzI1NiJ9.eyJ2aWRlbyI6eyJyb29tIjoicSJ9fQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
    for value in (*secrets.values.values(), job_token):
        assert secrets.found_in("here", b"before " + value + b" after")
    assert not secrets.found_in("here", b"nothing")
