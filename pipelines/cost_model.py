"""What a batch will cost, learnt from those that ran. Pure."""


class CostModel:
    """Estimates a batch's service time as fixed cost plus cost for each item in it.

    Items are whatever the caller counts: streams, or seconds of audio. A least-squares line
    through the past, older batches counting less. Until sizes differ it is anchored at
    `prior_fixed_s`, which an empty batch is taken to cost.
    """

    def __init__(self, *, prior_fixed_s: float = 0.0002, memory: float = 0.98) -> None:
        # 0.2 ms is what a hand-over to a thread and back to the loop costs on a busy machine.
        self._prior_fixed_s = prior_fixed_s
        self._memory = memory
        self._weight = self._n = self._nn = self._y = self._ny = 0.0

    @property
    def fixed_s(self) -> float:
        """Seconds that every batch costs, however small."""
        return self._line()[0]

    @property
    def per_item_s(self) -> float:
        """Seconds that each item adds to a batch."""
        return self._line()[1]

    def observe(self, size: float, service_s: float) -> None:
        """Learn from one batch."""
        keep = self._memory
        self._weight = keep * self._weight + 1
        self._n = keep * self._n + size
        self._nn = keep * self._nn + size * size
        self._y = keep * self._y + service_s
        self._ny = keep * self._ny + size * service_s

    def _line(self) -> tuple[float, float]:
        # The anchor is one more observation, at size 0, that is never forgotten.
        weight, y = self._weight + 1, self._y + self._prior_fixed_s
        spread = weight * self._nn - self._n * self._n
        if spread <= 0:
            return self._prior_fixed_s, 0.0
        slope = max(0.0, (weight * self._ny - self._n * y) / spread)
        return max(0.0, (y - slope * self._n) / weight), slope
