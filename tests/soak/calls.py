"""The run of calls: short spoken calls on one host, and what it needs after every few."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.dispatched import AGENT
from tests.soak.growth import Verdict, count_faults, counts, fit
from tests.soak.runs import ALONE, Run, at_once, counted, is_over, more_than, started
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.call import CallObserver, CallPlan, run_call
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.questions import Question
from voxray.loadtest.speech import speak_all
from voxray.pipelines.engines.base import Samples

_WORDS = "green river"
_CALLS_AT_ONCE = 5
_CALLS_A_ROUND = 20


async def run_calls(server: LiveKitServer, home: Path, calls: int) -> dict[str, Any]:
    """Run short spoken calls on one host; `faults` says what they left.

    After every 20 calls nothing runs any more and the host says what it needs, settled: that is
    what is judged, over the second half.
    """
    speech = await speak_all([_WORDS])
    answered: Counter[str] = Counter()
    settled: list[dict[str, Any]] = []
    async with started(server, home) as run:

        async def one(number: int) -> None:
            answered[await _one_call(run, server, f"call-{number}", speech)] += 1
            run.done += 1

        run.look()
        for first in range(0, calls, _CALLS_A_ROUND):
            count = min(_CALLS_A_ROUND, calls - first)
            await at_once(count, _CALLS_AT_ONCE, lambda n, at=first: one(at + n), run.look)
            counter = await counted(
                run, server, f"count-{run.done}", settled[0]["objects"] if settled else ALONE
            )
            settled.append({"calls": run.done, **counter})
            sys.stderr.write(f"{settled[-1]}\n")
        status = await run.app.until_status(is_over)
        half = calls // 2
        growth = {
            "host": fit([(e["calls"], e["memory"]["anonymous"]) for e in settled], after=half),
            "host's C heaps": fit(
                [(e["calls"], e["memory"]["malloc"]) for e in settled], after=half
            ),
            "dispatcher": run.growth(after=half)["dispatcher"],
        }
        least = {role: counts(each, after=half) for role, each in run.samples.items()}
        faults = run.ledger.faults(await run.app.get("/metrics"), status)
        faults += _kept(settled)
        faults += [
            f"{role}: {each.verdict}"
            for role, each in growth.items()
            if each.verdict is not Verdict.FLAT
        ]
        for role, each in least.items():
            faults += count_faults(role, each)
        return {
            "calls": calls,
            "answered": dict(answered),
            "books": run.ledger.summary(),
            "rss_mib": run.sizes(),
            "growth": {role: each.to_json() for role, each in growth.items()},
            "least": least,
            "settled": settled,
            "host_rss_mib": [round(each.rss_mib, 1) for each in run.samples["host"]],
            "faults": faults,
        }


async def _one_call(
    run: Run, server: LiveKitServer, room: str, speech: Mapping[str, Samples]
) -> str:
    """Make a call, hang up, and return what came of it once its job has ended."""
    access = LiveKitAccess(
        url=server.url, api_key=server.api_key, api_secret=server.api_secret, agent_name=AGENT
    )
    question = Question(say=_WORDS, expect=tuple(_WORDS.split()))
    plan = CallPlan(access=access, room=room, questions=[question], speech=speech)
    result = await run_call(plan, CallObserver())
    right = bool(result.turns) and result.turns[0].correct
    # The caller has hung up; the room closes soon, and with it the job ends.
    await run.ledger.ended(room)
    return "right" if right else result.error or "wrong answer"


def _kept(settled: list[dict[str, Any]]) -> list[str]:
    """Return what is there at the end and was not there after the first round.

    The first calls of a process may leave one of theirs behind for good: what is made once.
    """
    first = settled[0]["objects"]
    more = more_than(first, settled[-1]["objects"])
    return [f"more objects than after the first calls: {more}, first {first}"] if more else []
