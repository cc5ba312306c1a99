"""The metrics page answers over HTTP, in the format that the scraper asks for."""

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
