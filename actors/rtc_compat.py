"""The only user of private names of livekit.rtc: how its runtime is loaded, and its events.

Tested with the version in `livekit_compat.TESTED_VERSIONS`; `tests/contract/test_rtc_compat.py`
holds what is relied upon.
"""

import functools
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from livekit import rtc

from voxray.base.errors import MissingPartError

try:
    from livekit.rtc import _ffi_client
    from livekit.rtc._ffi_client import get_ffi_lib
except ImportError as error:  # pragma: no cover - the contract test pins every name
    raise MissingPartError(
        f"livekit (rtc) lacks a name that voxray needs ({error}); install the version that "
        "voxray asks for"
    ) from error

NATIVE_LOG_FILTER = "error,livekit::rtc_engine::rtc_session=off"
"""What the native runtime writes. The one target that is off reports errors at every ordinary end
of a room ("publisher data channel closed unexpectedly")."""


def quiet_native_runtime(environment: MutableMapping[str, str]) -> None:
    """Let the native runtime drop what nobody reads before it is written.

    The binding has every record down to TRACE handed over, each by a callback that needs the
    interpreter lock, and drops almost all of them: in a process with many calls that was 40 % of
    the CPU of a burst. From now on errors go to standard error and nothing else goes anywhere;
    RUST_LOG chooses otherwise, LIVEKIT_RTC_DEBUG keeps the binding's own way.

    Call it before anything of livekit.rtc is used. Idempotent.

    Args:
        environment: the process's own; the native runtime reads it too.
    """
    if environment.get("LIVEKIT_RTC_DEBUG", "").strip().lower() in {"true", "1"}:
        return
    environment.setdefault("RUST_LOG", NATIVE_LOG_FILTER)
    _ffi_client.get_ffi_lib = _load_quietly


def drop_events(room: rtc.Room) -> None:
    """Take back the events of a room whose connection was cut short: it would gather all rooms'."""
    if (events := getattr(room, "_ffi_queue", None)) is not None:
        _ffi_client.FfiClient.instance.queue.unsubscribe(events)


def observe_subscriptions(observer: Callable[[object], None]) -> None:
    """Call `observer` with each queue that is subscribed to native events from now on.

    In the context of whoever subscribes, on any thread. Idempotent: a second observer is ignored.
    """
    original = _ffi_client.FfiQueue.subscribe
    if getattr(original, "voxray_observed", False):
        return

    @functools.wraps(original)
    def subscribe(self: Any, *arguments: Any, **options: Any) -> Any:
        queue = original(self, *arguments, **options)
        observer(queue)
        return queue

    subscribe.voxray_observed = True  # type: ignore[attr-defined]  # a mark on our own function
    _ffi_client.FfiQueue.subscribe = subscribe  # type: ignore[method-assign]


def unsubscribe(queue: object) -> None:
    """Let a queue get no more native events. Idempotent."""
    _ffi_client.FfiClient.instance.queue.unsubscribe(queue)


def _load_quietly() -> Any:
    return _QuietLibrary(get_ffi_lib())


class _QuietLibrary:
    """The native library with an initialisation of its own."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.livekit_ffi_initialize = _QuietInitialize(library.livekit_ffi_initialize)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


class _QuietInitialize:
    """Initialises the native runtime with its logs left to itself (`capture_logs` off)."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.argtypes: Sequence[Any] = ()

    def __call__(self, callback: Any, _: bool, sdk: bytes, version: bytes) -> None:
        self._function.argtypes = self.argtypes
        self._function(callback, False, sdk, version)
