"""A private LiveKit server on loopback, for the demo, the tests and the benchmarks."""

import asyncio
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from voxray.base.errors import ConnectionFailedError, DeadlineError
from voxray.loadtest.child_process import kill_child, start_child
from voxray.loadtest.livekit_binary import PINNED_VERSION, find_or_install

__all__ = ["PINNED_VERSION", "LiveKitServer", "find_or_install"]

_LOOPBACK = "127.0.0.1"
# The discard port: nothing answers there. A port of the server itself would disturb its ICE.
_NOBODYS_PORT = 9
# It answers after 0.3 s on an idle machine.
_START_DEADLINE_S = 30.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25
_PROBE_TIMEOUT_S = 1.0
# A free port can be taken by another process before the server binds it.
_PORT_ATTEMPTS = 5
_PORT_TAKEN = "address already in use"
_LOG_TAIL_LINES = 5


@dataclass(frozen=True, kw_only=True)
class _Ports:
    http: int
    rtc: int


class _PortLostError(ConnectionFailedError):
    """A port that was free a moment ago is taken."""


class LiveKitServer:
    """One livekit-server process with a key of its own, reachable from this machine only.

    Use it as a context manager, `async with` or `with`. It is bound to no event loop: what one
    loop started, another (or none) may stop. The process dies with the thread that started it,
    so start it on the main thread.
    """

    def __init__(self, program: Path, *, extra_config: Mapping[str, Any] | None = None) -> None:
        """Prepare a server.

        Args:
            program: the livekit-server file, from `find_or_install`.
            extra_config: settings of livekit-server's YAML; sections are merged over ours.
        """
        self._program = program
        self._extra_config = dict(extra_config or {})
        self._api_key = f"API{secrets.token_hex(6)}"
        self._api_secret = secrets.token_hex(24)
        self._folder: Path | None = None
        self._ports: _Ports | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address, `ws://127.0.0.1:<port>`."""
        return f"ws://{_LOOPBACK}:{self._started_ports().http}"

    @property
    def api_key(self) -> str:
        """The only key that the server knows."""
        return self._api_key

    @property
    def api_secret(self) -> str:
        """The secret of the key; random, 48 characters."""
        return self._api_secret

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError("the livekit server is not running")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """Where the server's output goes; deleted by `stop`."""
        if self._folder is None:
            raise RuntimeError("the livekit server was never started")
        return self._folder / "livekit-server.log"

    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ConnectionFailedError: it ended instead; the message holds its last lines.
            DeadlineError: it runs but does not answer.
        """
        for pause_s in self._starting():
            await asyncio.sleep(pause_s)

    def start_blocking(self) -> None:
        """Do what `start` does, for callers without an event loop."""
        for pause_s in self._starting():
            time.sleep(pause_s)

    async def restart(self) -> None:
        """Kill the server and start it anew on the same ports with the same key.

        Raises:
            ConnectionFailedError: it ended instead; the message holds its last lines.
            DeadlineError: it runs but does not answer.
        """
        self.kill()
        await self.start()

    def kill(self) -> None:
        """End the process at once, as a crash would; ports, key and log stay. Idempotent.

        A polite stop would wait until every participant has left its room.
        """
        if self._process is not None:
            kill_child(self._process)
            self._process = None

    async def stop(self) -> None:
        """End the server and delete its files. Idempotent, safe before `start`."""
        self.stop_blocking()

    def stop_blocking(self) -> None:
        """Do what `stop` does, for callers without an event loop."""
        self.kill()
        self._ports = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self.start_blocking()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_blocking()

    def _started_ports(self) -> _Ports:
        if self._ports is None:
            raise RuntimeError("the livekit server is not running")
        return self._ports

    def _starting(self) -> Iterator[float]:
        """Start the server; yield each pause to make until it answers."""
        if self._process is not None:
            raise RuntimeError(f"the livekit server runs already, as process {self._process.pid}")
        fresh = self._ports is None
        try:
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                try:
                    self._launch()
                    yield from self._until_it_answers()
                except _PortLostError:
                    # After a restart the ports are given: the old socket may need a moment.
                    self.kill()
                    if attempt == _PORT_ATTEMPTS:
                        raise
                    if fresh:
                        self._ports = None
                    else:
                        yield _LONGEST_PAUSE_S
                else:
                    return
        except BaseException:
            if fresh:
                self.stop_blocking()
            else:
                self.kill()
            raise

    def _launch(self) -> None:
        if self._folder is None:
            # mkdtemp gives it mode 0700: the key is in there.
            self._folder = Path(tempfile.mkdtemp(prefix="voxray-livekit-"))
        if self._ports is None:
            self._ports = _free_ports()
        config = self._folder / "livekit.yaml"
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(self._config(self._ports)))
        with self.log_path.open("ab") as output:
            self._process = start_child(
                [self._program, "--config", config], output=output, folder=self._folder
            )

    def _config(self, ports: _Ports) -> dict[str, Any]:
        ours: dict[str, Any] = {
            "port": ports.http,
            "bind_addresses": [_LOOPBACK],
            "rtc": {
                # ICE over TCP would listen on every interface, whatever the addresses above.
                "tcp_port": 0,
                "udp_port": ports.rtc,
                "node_ip": _LOOPBACK,
                "use_external_ip": False,
                # Loopback is left out by default, and the machine's other addresses are nobody's
                # business: media stays on 127.0.0.1.
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo"]},
                # Otherwise every participant looks public ones up, and where no resolver answers
                # some twenty threads of each hang in that for half a minute and more.
                "stun_servers": [f"{_LOOPBACK}:{_NOBODYS_PORT}"],
            },
            "keys": {self._api_key: self._api_secret},
            "logging": {"level": "info", "json": True},
        }
        for section, value in self._extra_config.items():
            lower = ours.get(section)
            if isinstance(lower, dict) and isinstance(value, Mapping):
                ours[section] = {**lower, **value}
            else:
                ours[section] = value
        return ours

    def _until_it_answers(self) -> Iterator[float]:
        deadline = time.monotonic() + _START_DEADLINE_S
        pause_s = _FIRST_PAUSE_S
        port = self._started_ports().http
        while not _answers(port):
            if self._process is None or self._process.poll() is not None:
                self._explain_end()
            if time.monotonic() > deadline:
                raise DeadlineError(
                    f"livekit-server gives no answer on {_LOOPBACK}:{port} after "
                    f"{_START_DEADLINE_S:.0f} s; its last lines: {self._log_tail()}"
                )
            yield pause_s
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        # The answer may come from whoever took our port first.
        if self._process is None or self._process.poll() is not None:
            self._explain_end()

    def _explain_end(self) -> None:
        status = self._process.returncode if self._process is not None else None
        self._process = None
        tail = self._log_tail()
        message = f"livekit-server ended with status {status} at its start: {tail or 'no output'}"
        if _PORT_TAKEN in tail:
            raise _PortLostError(message)
        raise ConnectionFailedError(message)

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-_LOG_TAIL_LINES:])


def _free_ports() -> _Ports:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as http,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtc,
    ):
        http.bind((_LOOPBACK, 0))
        rtc.bind((_LOOPBACK, 0))
        return _Ports(http=http.getsockname()[1], rtc=rtc.getsockname()[1])


def _answers(port: int) -> bool:
    """Whether a LiveKit server says that it is well; a refused connection costs microseconds."""
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=_PROBE_TIMEOUT_S) as probe:
            probe.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return b" 200 " in probe.recv(64)
    except OSError:
        return False
