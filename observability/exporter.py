"""The metrics page of a process: text exposition of its registry on a port of its own."""

import hmac
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder

from voxray.base.addresses import is_loopback
from voxray.base.errors import PortTakenError

# Scrapers come one at a time; the page lives in the process that carries the calls.
_CONNECTIONS = 32
_IDLE_S = 5.0


def render(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Return the page and its content type, as the scraper's `Accept` header asks."""
    if not accept:
        return generate_latest(registry), "text/plain; version=0.0.4; charset=utf-8"
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class _PageServer(ThreadingHTTPServer):
    """A server that keeps few connections, and no tale of those that break."""

    daemon_threads = True
    # A burst of connections is taken in and turned away, not left half open.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, or close it when there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection on its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a connection that broke: whoever sends nonsense is no fault of ours."""


class MetricsServer:
    """Serves `/metrics` from a thread, so that a busy event loop still answers a scrape."""

    def __init__(
        self, host: str, ports: str, registry: CollectorRegistry, *, token: str | None = None
    ) -> None:
        """Prepare a server.

        Args:
            host: address to listen on.
            ports: `first-last` range to take a free port from, or empty for any.
            registry: what is served.
            token: what `Authorization: Bearer` must carry where other machines reach the page.
        """
        self._host = host
        self._ports = ports
        self._registry = registry
        self._expected = f"Bearer {token}".encode() if token and not is_loopback(host) else None
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen; return the port.

        Raises:
            PortTakenError: every port of the range is in use.
        """
        registry, expected = self._registry, self._expected

        class Handler(BaseHTTPRequestHandler):
            timeout = _IDLE_S

            def do_GET(self) -> None:
                if self.path.split("?")[0] not in {"/", "/metrics"}:
                    self.send_error(404)
                    return
                given = self.headers.get("Authorization", "").encode()
                if expected is not None and not hmac.compare_digest(given, expected):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", "Bearer")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body, content_type = render(registry, self.headers.get("Accept", ""))
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
                """Say nothing: a scrape is not news."""

        self._server = self._listen(Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics-page", daemon=True
        )
        self._thread.start()
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop. Idempotent and safe before start."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def _listen(self, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
        for port in self._candidates():
            try:
                return _PageServer((self._host, port), handler)
            except OSError:
                continue
        raise PortTakenError(
            f"no free port for the metrics page in {self._ports or 'any'} on {self._host}; "
            "widen http.metrics_ports"
        )

    def _candidates(self) -> Iterator[int]:
        if not self._ports:
            yield 0
            return
        first, last = (int(part) for part in self._ports.split("-"))
        yield from range(first, last + 1)
