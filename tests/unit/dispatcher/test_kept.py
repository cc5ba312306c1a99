"""What a restarted dispatcher knows of the one before it."""

import pytest

from tests.fakes.dispatch_world import World, program
from tests.fakes.fleet import FakeFleet
from voxray.base.settings import HostSettings, LiveKitSettings, Settings
from voxray.base.timing import SystemClock
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.access import Access
from voxray.dispatcher.kept import Kept
from voxray.dispatcher.service import DispatcherService
from voxray.observability import events as ev


class Store:
    def __init__(self):
        self.values = {}

    def get(self, name):
        return self.values.get(name)

    def put(self, name, value):
        self.values[name] = value


class Clock(SystemClock):
    """Starts at a given time of the wall."""

    def __init__(self, wall):
        self._wall = wall

    def wall(self):
        return self._wall

    def monotonic(self):
        return 5.0


def test_nothing_is_kept_at_first_and_then_the_last_of_each():
    kept = Kept(Store())
    assert (kept.program(), kept.drain_until()) == (None, None)
    for version in ("v1", "v2"):
        kept.keep_program(program(version=version))
    kept.keep_drain(1_700_000_000.125)
    assert kept.program() == program(version="v2")
    assert kept.drain_until() == 1_700_000_000.125


def service(kept, wall):
    settings = Settings(
        livekit=LiveKitSettings(
            url="ws://livekit", api_key="key", api_secret="s" * 32, registered=False
        )
    )
    return DispatcherService(
        settings,
        program(),
        FakeFleet(),
        access=Access(token="token", kept=kept),
        clock=Clock(wall),
    )


@pytest.mark.parametrize("how", ["drain", "shutdown"])
async def test_a_drain_goes_on_in_the_dispatcher_that_is_made_after_it(how):
    store = Store()
    first = service(Kept(store), 1000.0)
    first.drain(60.0)
    # The shorter one counts.
    first.drain(90.0)
    if how == "shutdown":
        first.shutdown()
    await first._drain_time.keep()
    await first.aclose()
    told = []
    second = service(Kept(store), 1020.0)
    second._tell = told.append
    second._go_on_draining()
    (drain,) = told
    assert drain == inp.Drain(timeout_s=40.0 if how == "drain" else 0.0)
    assert (await second.state(0, 0.0))["phase"] == "draining"
    await second.aclose()


async def test_nothing_drains_that_was_not_told_to():
    told = []
    one = service(Kept(Store()), 1000.0)
    one._tell = told.append
    one._go_on_draining()
    assert not told
    await one.aclose()


def calls_in_a_restarted_world(timeout_s):
    hosts = HostSettings(sessions_per_host=4, min_hosts=1, max_hosts=1, idle_hosts=0)
    one = World(hosts=hosts)
    one.advance(2.0)
    job_id = one.offer()
    one.advance(1.0)
    one.restart()
    one.tell(inp.Drain(timeout_s=timeout_s))
    return one, job_id


def test_a_drain_that_goes_on_waits_for_the_calls_that_it_finds():
    one, job_id = calls_in_a_restarted_world(60.0)
    one.advance(30.0)
    assert not one.of(cmd.StopHost)
    assert one.drained == 0
    one.finish(job_id)
    one.advance(1.0)
    assert one.drained == 1


def test_one_whose_time_is_over_ends_the_calls_in_order():
    one, job_id = calls_in_a_restarted_world(0.0)
    one.advance(1.0)
    assert [each.job_id for each in one.of(cmd.StopJob)] == [job_id]
    assert [each.outcome for each in one.of(ev.JobEnded)] == ["success"]
    assert one.drained == 1
    assert not any(each.force for each in one.of(cmd.StopHost))
