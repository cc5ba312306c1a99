"""Starting or joining a Ray cluster with the environment that live calls need.

Every variable here was measured: Ray's defaults are made for batch work. The same list is set on
Kubernetes by the manifests.
"""

import contextlib
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from voxray.base.errors import ConnectionFailedError, CredentialsError, VoxrayError
from voxray.base.priority import START_NICENESS, may_come_back
from voxray.base.settings import RaySettings
from voxray.cli.leftovers import make_folder

RAY_ENVIRONMENT: Mapping[str, str] = {
    # Ray renices every worker to 15; audio has to be on time.
    "RAY_worker_niceness": "0",
    # Workers of the pool import these ahead: an actor starts in 50 ms instead of 2 s.
    "RAY_preload_python_modules": "livekit.agents,livekit.rtc",
    # A call to an actor that died fails in 9 ms instead of 1.5 s.
    "RAY_timeout_ms_task_wait_for_death_info": "0",
    # Hosts, replicas and the dispatcher outlive a restart of the head.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    # A pod's SIGTERM waits this long for its calls (just under the grace period).
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "3500",
    # Ray's memory monitor would kill a process full of calls; admission is ours.
    "RAY_memory_monitor_refresh_ms": "0",
    # Lines of different calls may be equal; none is to be folded away.
    "RAY_DEDUP_LOGS": "0",
    # gRPC tells every closed connection at INFO otherwise.
    "GRPC_VERBOSITY": "ERROR",
    # No usage report leaves the machine.
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Loopback only: Ray rewrites 127.0.0.1 to the machine's address unless this is off.
_LOOPBACK_ENVIRONMENT: Mapping[str, str] = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Slowing variables of a shell that the workers must not inherit: without bytecode caches every
# process compiles every module anew (measured: ray.init 8-12 s instead of 3.7 s).
_DROPPED = ("PYTHONDONTWRITEBYTECODE",)
# Logical CPUs of a local Ray: our actors ask for shares, and two cores must not end the list.
_MIN_LOGICAL_CPUS = 8
_END_DEADLINE_S = 5.0
_LISTENS_S = 2.0
_HOW_TO_GET_IN = (
    "it asks for a token (or for another one); set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to "
    "a file with the cluster's token (or RAY_AUTH_TOKEN to the token itself); a cluster of another "
    "Ray version refuses as well"
)
_SECRET_PARTS = (
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "CREDENTIAL",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that this process has joined.

    Attributes:
        address: of the cluster's control store.
        dashboard_url: where Ray's dashboard is, or None.
        dashboard_token: file with the token that the dashboard asks for; None if it asks for none,
            or it is not ours to know.
        local: whether this process started it and ends it.
        close: leaves it; ends it if local.
    """

    address: str
    dashboard_url: str | None
    dashboard_token: Path | None = None
    local: bool
    close: Callable[[], None]


class Authentication(StrEnum):
    """How a local Ray tells its own from others."""

    FRESH = "fresh"
    """By a fresh token of its own."""
    GIVEN = "given"
    """By the token that the environment gives."""
    OFF = "off"
    """Not at all: whoever reaches its ports runs code."""


def authentication(environment: Mapping[str, str]) -> Authentication:
    """Return how a local Ray would be protected."""
    if environment.get("RAY_AUTH_MODE", "token").lower() != "token":
        return Authentication.OFF
    given = environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH")
    return Authentication.GIVEN if given else Authentication.FRESH


def join(
    settings: RaySettings,
    *,
    namespace: str,
    log_to_driver: bool,
    bare_logs: bool = False,
    cpus: float = 0.0,
) -> Cluster:
    """Join the cluster at `settings.address`, or start one on this machine.

    Args:
        settings: address, dashboard, logical GPUs. Call it on the main thread, before Ray is
            imported anywhere.
        namespace: the app's name; its actors are found by name in it.
        log_to_driver: print the actors' output here.
        bare_logs: print its lines as they are, as JSON has to be; otherwise with the actor's name.
        cpus: what the app's actors ask for at most; a local Ray pretends to have as many.

    Raises:
        ConnectionFailedError: no cluster answers at the address, or none could be started.
        CredentialsError: the cluster asks for a token that the environment does not give.
    """
    for name in _DROPPED:
        os.environ.pop(name, None)
    if not settings.address and may_come_back():
        # Processes start behind the calls of this machine and come back to 0 once they serve.
        os.environ.setdefault("RAY_worker_niceness", str(START_NICENESS))
    # Ray's native part reads its variables when it is imported, in this process too.
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if bare_logs:
        os.environ["RAY_DISABLE_WORKER_LOG_PREFIX"] = "1"
    if not sys.stderr.isatty():
        # Ray colours that name in files and pipes too.
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    if not settings.address:
        os.environ.update(_LOOPBACK_ENVIRONMENT)
        if "ray" not in sys.modules:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray  # noqa: PLC0415 - see above

    try:
        if settings.address:
            return _connect(settings.address, namespace, log_to_driver=log_to_driver)
        return _start_local(settings, namespace, log_to_driver=log_to_driver, cpus=cpus)
    except VoxrayError:
        ray.shutdown()
        raise
    except Exception as error:
        # Ray raises bare ones too, as for a dashboard that does not start in time.
        ray.shutdown()
        raise _explained(settings.address, error) from error


def _explained(address: str, error: Exception) -> VoxrayError:
    """Return what a person can do about a cluster that was not joined or not started."""
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if not address and "dashboard" in str(error):
        return ConnectionFailedError(
            "could not start Ray: its dashboard did not come up in time; try again when the "
            "machine is less busy, or do without it (VOXRAY_RAY__DASHBOARD=false)"
        )
    if not address:
        return ConnectionFailedError(f"could not start Ray: {reason}")
    if _is_about_token(error) or _listens(address):
        return CredentialsError(
            f"the Ray cluster at {address} refuses this start: {_HOW_TO_GET_IN}"
        )
    return ConnectionFailedError(
        f"could not join the Ray cluster at {address}: {reason}; check ray.address, or leave it "
        "empty for a local Ray"
    )


def _connect(address: str, namespace: str, *, log_to_driver: bool) -> Cluster:
    import ray  # noqa: PLC0415 - after its environment, see `join`

    context = ray.init(
        address=address,
        namespace=namespace,
        log_to_driver=log_to_driver,
        logging_level=logging.WARNING,
    )
    url = context.dashboard_url
    return Cluster(
        address=ray.get_runtime_context().gcs_address,
        dashboard_url=f"http://{url}" if url else None,
        local=False,
        close=ray.shutdown,
    )


def _start_local(
    settings: RaySettings, namespace: str, *, log_to_driver: bool, cpus: float
) -> Cluster:
    import ray  # noqa: PLC0415 - after its environment, see `join`

    # A folder of its own: two local clusters of one user never find each other's sockets.
    folder = make_folder(namespace)
    environment = {"RAY_TMPDIR": str(folder.path)}
    if authentication(os.environ) is Authentication.FRESH:
        environment["RAY_AUTH_TOKEN_PATH"] = str(folder.token_file)
    secret = {name: os.environ.pop(name) for name in list(os.environ) if _is_secret(name)}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    _forget_token()
    try:
        context = ray.init(
            address="local",
            namespace=namespace,
            num_cpus=max(_MIN_LOGICAL_CPUS, os.cpu_count() or 1, math.ceil(cpus)),
            num_gpus=_gpu_count() or settings.logical_gpus,
            include_dashboard=settings.dashboard,
            dashboard_host="127.0.0.1",
            log_to_driver=log_to_driver,
            logging_level=logging.WARNING,
            _temp_dir=str(folder.path / "ray"),
        )
    except BaseException:
        folder.close()
        _restore(before)
        raise
    finally:
        os.environ.update(secret)
    # The token has to be found for as long as the cluster is used; the folder is told already.
    _restore({"RAY_TMPDIR": before["RAY_TMPDIR"]})

    def close() -> None:
        family = psutil.Process().children(recursive=True)
        ray.shutdown()
        _end_all(family)
        folder.close()
        _restore(before)
        _forget_token()

    url = context.dashboard_url
    return Cluster(
        address=ray.get_runtime_context().gcs_address,
        dashboard_url=f"http://{url}" if url else None,
        dashboard_token=folder.token_file if url and "RAY_AUTH_TOKEN_PATH" in before else None,
        local=True,
        close=close,
    )


def _is_about_token(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return "authenticat" in text or "unauthorized" in text


def _listens(address: str) -> bool:
    """Whether anything listens at an address that could not be joined: then it refused us.

    Ray itself does not say whether nobody was there or a token was wrong.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return False
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENS_S).close()
    except OSError:
        return False
    return True


def _is_secret(name: str) -> bool:
    """Whether a variable may hold a secret, by its name.

    Ray's own processes have no use for those; ours get them as arguments, sealed.
    """
    return not name.startswith("RAY_") and any(part in name.upper() for part in _SECRET_PARTS)


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _forget_token() -> None:
    """Let Ray read its token anew: it keeps that of the cluster before in this process."""
    from ray import _raylet  # noqa: PLC0415 - after its environment

    if (loader := getattr(_raylet, "AuthenticationTokenLoader", None)) is not None:
        loader.instance().reset_cache()


def _end_all(family: list[psutil.Process]) -> None:
    """Wait for the processes of a cluster that was shut down; kill those that linger.

    Ray asks its processes to end and does not wait for all of them.
    """
    ours = [process for process in family if _is_ray(process)]
    _, lingering = psutil.wait_procs(ours, timeout=_END_DEADLINE_S)
    for process in lingering:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(lingering, timeout=_END_DEADLINE_S)


def _is_ray(process: psutil.Process) -> bool:
    try:
        return any("ray" in part for part in process.cmdline())
    except psutil.Error:
        return False


def _gpu_count() -> int:
    """Return the GPUs that Ray itself would find here."""
    # The driver lists its devices here; CUDA need not be loaded to count them.
    devices = Path("/proc/driver/nvidia/gpus")
    return len(list(devices.iterdir())) if devices.is_dir() else 0
