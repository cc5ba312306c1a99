"""The metrics page answers over HTTP, in the format that the scraper asks for."""

import socket
import struct
import threading
import urllib.error
import urllib.request

import pytest

from voxray.base.errors import PortTakenError
from voxray.observability.events import LoopLag
from voxray.observability.exporter import MetricsServer
from voxray.observability.metrics import MetricsSink


def _get(url: str, accept: str = "") -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=5) as response:
        return response.read().decode(), response.headers["Content-Type"]


def test_serves_the_registry_and_stops() -> None:
    sink = MetricsSink()
    sink.emit(LoopLag(process="host", seconds=0.003))
    server = MetricsServer("127.0.0.1", "", sink.registry)
    port = server.start()
    try:
        text, kind = _get(f"http://127.0.0.1:{port}/metrics")
        assert 'voxray_loop_lag_seconds_count{process="host"} 1.0' in text
        assert kind.startswith("text/plain")
        text, kind = _get(
            f"http://127.0.0.1:{port}/metrics", "application/openmetrics-text; version=1.0.0"
        )
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
        with pytest.raises(urllib.error.HTTPError) as caught:
            _get(f"http://127.0.0.1:{port}/nothing")
        caught.value.close()
        assert caught.value.code == 404
    finally:
        server.close()
        server.close()
    with pytest.raises(urllib.error.URLError):
        _get(f"http://127.0.0.1:{port}/metrics")


def test_other_machines_need_the_token() -> None:
    server = MetricsServer("0.0.0.0", "", MetricsSink().registry, token="t0ken")
    url = f"http://127.0.0.1:{server.start()}/metrics"
    try:
        for given in ("", "Bearer", "Bearer t0ke", "Basic t0ken", "Bearer t0ken2"):
            request = urllib.request.Request(url, headers={"Authorization": given})
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=5)
            caught.value.close()
            assert caught.value.code == 401
        request = urllib.request.Request(url, headers={"Authorization": "Bearer t0ken"})
        with urllib.request.urlopen(request, timeout=5) as response:
            assert response.status == 200
    finally:
        server.close()


def test_takes_the_next_port_of_its_range_and_names_a_full_range() -> None:
    first = MetricsServer("127.0.0.1", "", MetricsSink().registry)
    port = first.start()
    try:
        second = MetricsServer("127.0.0.1", f"{port}-{port}", MetricsSink().registry)
        with pytest.raises(PortTakenError, match=f"{port}-{port}"):
            second.start()
        second.close()
    finally:
        first.close()


def test_nonsense_and_idle_connections_harm_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    server = MetricsServer("127.0.0.1", "", MetricsSink().registry)
    port = server.start()
    idle: list[socket.socket] = []
    try:
        threads = threading.active_count()
        for nonsense in (b"\x00\xff" * 200, b"GET\r\n\r\n", b"GET /metrics HTTP/1.1\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(nonsense)
                linger = struct.pack("ii", 1, 0)  # Closed by a reset, as a scanner does.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        idle = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
        # The last connections are turned away: a read on them ends.
        assert idle[-1].recv(1) == b""
        assert threading.active_count() <= threads + 40
    finally:
        for connection in idle:
            connection.close()
        server.close()
    assert "Traceback" not in capsys.readouterr().err
