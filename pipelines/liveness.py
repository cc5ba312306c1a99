"""When a replica that promised a word every so often counts as hanging; pure."""

HANG_AFTER_S = 1.25
"""Silence after which a replica is taken to hang: six of its reports. Less would take a machine
that is busy for one that hangs; a dead process is noticed at once by its broken connection."""


class Silence:
    """Adds up how long nothing was heard while we listened.

    Only time in which this process looked counts: when its own event loop was held up, what the
    replica said meanwhile lies unread, and says nothing about the replica.
    """

    def __init__(self, interval_s: float) -> None:
        """Begin with a replica that was just heard; it is looked at every `interval_s`."""
        self._interval_s = interval_s
        self._looked_s: float | None = None
        self._silent_s = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of silence so far."""
        return self._silent_s

    def heard(self) -> None:
        """Note that the replica said something."""
        self._silent_s = 0.0

    def look(self, now_s: float) -> bool:
        """Note that time has come to `now_s`; return whether the replica hangs."""
        if self._looked_s is not None:
            self._silent_s += min(now_s - self._looked_s, 1.5 * self._interval_s)
        self._looked_s = now_s
        return self._silent_s >= HANG_AFTER_S
