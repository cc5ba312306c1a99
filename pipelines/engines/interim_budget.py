"""How much of an engine's time may go into interim results. Pure: time comes in.

A final transcript is waited for, an interim one only looked at. So interim results get a share
of the time, spent after the finals of a batch, and one round of them never takes long.
"""

_COST_WEIGHT = 0.3
# How fast the estimate of what one utterance costs follows: about the last six rounds.


class InterimBudget:
    """Time that may be spent: it grows by `share` of the time that passes, up to a bound."""

    def __init__(self, share: float, *, round_s: float = 0.3) -> None:
        """Begin with nothing to spend.

        Args:
            share: of the time that passes, 0 to 1; 0 allows none.
            round_s: longest time that one round should take, and the most that is saved up.
        """
        self._share = share
        self._round_s = round_s
        self._saved_s = 0.0
        self._last_s: float | None = None
        self._each_s = 0.0

    def allowed(self, waiting: int, now_s: float) -> int:
        """Return how many of the waiting utterances may be heard now."""
        if self._last_s is not None:
            grown_s = self._saved_s + self._share * max(0.0, now_s - self._last_s)
            self._saved_s = min(self._round_s, grown_s)
        self._last_s = now_s
        if self._share <= 0 or self._saved_s <= 0:
            return 0
        if self._each_s <= 0:
            return min(waiting, 1)  # What it costs is not known yet.
        return min(waiting, max(1, int(self._saved_s / self._each_s)))

    def spent(self, count: int, seconds: float) -> None:
        """Note what a round of `count` utterances took; it may leave a debt."""
        self._saved_s -= seconds
        each_s = seconds / count
        if self._each_s <= 0:
            self._each_s = each_s
        else:
            self._each_s += _COST_WEIGHT * (each_s - self._each_s)
