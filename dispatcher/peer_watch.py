"""The first dispatcher's eye on the others: one that missed a drain is told, one is waited for."""

import asyncio
from collections.abc import Callable

from voxray.dispatcher import inputs as inp
from voxray.dispatcher.merging import all_over, state_of
from voxray.dispatcher.peers import Peers, Question
from voxray.dispatcher.phases import Phase, PhaseBoard

INTERVAL_S = 1.0

_UNTOLD = frozenset({Phase.STARTING.value, Phase.RUNNING.value})
_ENDING = frozenset({Phase.DRAINING.value, Phase.DRAINED.value})


class PeerWatch:
    """Keeps the app of one mind: it drains as a whole, and its replicas go last.

    A dispatcher that dies as a drain begins may know nothing of it once Ray has restarted it. The
    first one tells the others; and it begins to drain itself when it finds them draining twice in a
    row, because then it is the one that was restarted.
    """

    def __init__(
        self,
        peers: Peers,
        phases: PhaseBoard,
        *,
        tell: Callable[[inp.Input], None],
        drain: Callable[[], None],
        left_s: Callable[[], float],
    ) -> None:
        """Prepare a watch.

        Args:
            peers: the others.
            phases: our own phase.
            tell: takes what was seen.
            drain: begins our own drain.
            left_s: seconds that our drain still gives the calls.
        """
        self._peers = peers
        self._phases = phases
        self._tell = tell
        self._drain = drain
        self._left_s = left_s
        self._seen_ending = 0

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Look once."""
        answers = await self._peers.ask(Question.STATUS)
        self._tell(inp.PeersLooked(over=all_over(answers)))
        states = {answer.index: state_of(answer) for answer in answers}
        phase = self._phases.phase
        ending = phase is Phase.RUNNING and any(state in _ENDING for state in states.values())
        self._seen_ending = self._seen_ending + 1 if ending else 0
        if self._seen_ending > 1:
            self._drain()
        if phase in {Phase.DRAINING, Phase.DRAINED}:
            for index, state in states.items():
                if state in _UNTOLD:
                    await self._peers.ask_one(index, Question.DRAIN, self._left_s())
