"""Random orders of offers, deaths, hangs, terminations and late reports, against the core.

The invariants are in `World.check` and `World._check_command`; they run after every single step.
"""

import random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.fakes.dispatch_world import World, program
from voxray.actors.contracts import HostHeartbeat, JobPhase, JobStatus, RequestAnswer
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.jobs import JobState
from voxray.observability import events as ev


class CoreMachine(RuleBasedStateMachine):
    """One app's life, as unlucky as hypothesis can make it."""

    @initialize(
        request_fnc=st.booleans(),
        per_host=st.integers(1, 3),
        max_hosts=st.integers(1, 4),
        idle=st.integers(0, 2),
        policy=st.sampled_from(["pack", "spread"]),
        threshold=st.sampled_from([None, 0.5, 1.0]),
        tenant_limit=st.none() | st.integers(0, 3),
        isolation=st.sampled_from(["shared", "shared", "process"]),
    )
    def start(
        self, *, request_fnc, per_host, max_hosts, idle, policy, threshold, tenant_limit, isolation
    ):
        self.world = World(
            hosts=HostSettings(
                isolation=isolation,
                sessions_per_host=per_host,
                max_hosts=max_hosts,
                idle_hosts=idle,
                placement=policy,
                heartbeat_s=0.5,
                tenant_key="tenant",
                tenant_limit=tenant_limit,
                tenant_limits={"big": 5},
            ),
            info=program(has_request_fnc=request_fnc, load_threshold=threshold),
        )
        self.draining = False
        self.moments = 0
        self.world.advance(2.0)

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.25, 1.0, 2.0, 5.0, 20.0]))
    def pass_time(self, seconds):
        self.moments += 1
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0]))
    def stall(self, seconds):
        self.world.stall(seconds)

    @rule(
        count=st.integers(1, 4),
        then=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
        metadata=st.sampled_from(
            ["", "{", '{"tenant": "a"}', '{"tenant": 7}', '{"tenant": "big"}']
        ),
    )
    def offer(self, count, then, metadata):
        limits = self.world.settings
        for _ in range(count):
            before = self.world.core._state.slots.tenants()
            job_id = self.world.offer(metadata=metadata)
            job = self.world.core._state.jobs.get(job_id)
            if job is not None and job.host_id is not None:
                assert self.world.hosts[job.host_id].version == self.world.info.version
            if job is not None and job.tenant and job.permit is not None:
                limit = limits.tenant_limits.get(job.tenant, limits.tenant_limit)
                assert limit is None or before.get(job.tenant, 0) < limit
        self.world.advance(then)

    @rule(then=st.sampled_from([0.0, 0.1, 1.0]))
    def simulate(self, then):
        job_id = self.world.simulate()
        self.world.advance(then)
        told = (cmd.UpdateJob, cmd.AnswerAvailability)
        assert not [each for each in self.world.of(told) if each.job_id == job_id]

    @rule(
        version=st.sampled_from(["v1", "v2", "v3"]),
        relaunch=st.booleans(),
        then=st.sampled_from([0.0, 0.5, 3.0]),
    )
    def change_program(self, version, relaunch, then):
        self.world.change_program(version, relaunch=relaunch)
        self.world.advance(then)

    @rule(data=st.data(), load=st.sampled_from([None, 0.0, 0.3, 0.6, 1.0]))
    @precondition(lambda self: self.world.living())
    def load_host(self, data, load):
        """The program finds itself loaded on a host; its next heartbeat says so."""
        host_id = data.draw(st.sampled_from([host.host_id for host in self.world.living()]))
        self.world.hosts[host_id].load = load

    @rule(answer=st.sampled_from(["accept", "reject", "terminate", "error"]))
    def program_mood(self, answer):
        """What the program's request_fnc says from now on."""
        no = {"terminate": answer == "terminate", "error": "it raised" * (answer == "error")}
        self.world.request_answer = None if answer == "accept" else RequestAnswer(accept=None, **no)

    @rule(count=st.integers(1, 2))
    def lose_stops(self, count):
        """Orders to end a job get lost on their way."""
        self.world.lose_stops = count

    @rule(data=st.data())
    @precondition(lambda self: self.world.offers)
    def offer_again(self, data):
        self.world.offer(data.draw(st.sampled_from(sorted(self.world.offers))))

    @rule(
        data=st.data(),
        how=st.sampled_from(["kill", "hang", "cut"]),
        then=st.sampled_from([0.01, 0.3, 2.5]),
    )
    @precondition(lambda self: self.world.living())
    def lose_host(self, data, how, then):
        host_id = data.draw(st.sampled_from([host.host_id for host in self.world.living()]))
        getattr(self.world, how)(host_id)
        self.world.advance(then)

    @rule(data=st.data())
    @precondition(lambda self: self.world.hosts)
    def tell_loss_twice(self, data):
        """A loss is told late, or again, or of a host that is well."""
        host_id = data.draw(st.sampled_from(sorted(self.world.hosts)))
        self.world.kill(host_id, seen_after_s=0.0)
        self.world.tell(inp.HostLost(host_id=host_id, evidence="told again"))

    @rule(data=st.data())
    @precondition(lambda self: self.world.hosts)
    def late_snapshot(self, data):
        """A host of any fate shows up with a new control stream."""
        self.world.watch(data.draw(st.sampled_from(sorted(self.world.hosts))))

    @rule(count=st.integers(1, 3), what=st.sampled_from(["fail_starts", "fail_job_starts"]))
    def make_fail(self, count, what):
        setattr(self.world, what, count)

    @rule(data=st.data(), gone=st.booleans())
    @precondition(lambda self: self.world.offers)
    def terminate(self, data, gone):
        job_id = data.draw(st.sampled_from(sorted(self.world.offers)))
        if gone:
            self.world.rooms_gone.add(job_id)
        if self.world.core._state.jobs.get(job_id) is not None:
            self.world.withdrawn.add(job_id)
        self.world.tell(inp.Terminated(job_id=job_id))

    @rule(data=st.data())
    @precondition(lambda self: self.world.offers)
    def finish(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.world.offers)))
        self.world.finish(job_id, data.draw(st.sampled_from(["success", "failed"])))

    @rule(data=st.data(), phase=st.sampled_from(list(JobPhase)), generation=st.integers(1, 3))
    @precondition(lambda self: self.world.offers and self.world.hosts)
    def stray_report(self, data, phase, generation):
        """A report of any phase, from a generation or a host that is not the owner."""
        world = self.world
        job_id = data.draw(st.sampled_from(sorted(world.offers)))
        host_id = data.draw(st.sampled_from(sorted(world.hosts)))
        job = world.core._state.jobs.get(job_id)
        if job is not None and (job.host_id, job.generation) == (host_id, generation):
            return
        before = (job.state, job.host_id, job.generation, job.phase) if job else None
        status = JobStatus(job_id=job_id, generation=generation, phase=phase, outcome="success")
        world.tell(inp.JobReported(host_id=host_id, status=status))
        job = world.core._state.jobs.get(job_id)
        after = (job.state, job.host_id, job.generation, job.phase) if job else None
        assert before == after

    @rule(data=st.data())
    @precondition(lambda self: self.world.living())
    def repeat_reports(self, data):
        """Reports that were given already come again, in any order."""
        host_id = data.draw(st.sampled_from([host.host_id for host in self.world.living()]))
        host = self.world.hosts[host_id]
        if host.cut or not host.statuses:
            return
        status = data.draw(st.sampled_from(sorted(host.statuses.values(), key=repr)))
        for _ in range(2):
            self.world.tell(inp.JobReported(host_id=host.host_id, status=status))
        beat = HostHeartbeat(host_id=host.host_id, sequence=0, jobs=0)
        self.world.tell(inp.HostHeartbeatReceived(heartbeat=beat))

    @rule()
    @precondition(lambda self: self.world.core._state.registered)
    def disconnect(self):
        self.world.disconnect()

    @rule()
    @precondition(lambda self: not self.draining)
    def restart_the_dispatcher(self):
        self.world.restart()

    @rule(assigns=st.booleans(), answers=st.booleans())
    def livekit_mood(self, assigns, answers):
        self.world.assigns, self.world.answers_requests = assigns, answers

    @rule(answer=st.sampled_from(list(inp.RoomAnswer)), data=st.data())
    @precondition(lambda self: self.world.offers)
    def stray_room_answer(self, answer, data):
        job_id = data.draw(st.sampled_from(sorted(self.world.offers)))
        self.world.tell(inp.RoomChecked(job_id=job_id, answer=answer))

    @rule()
    @precondition(lambda self: any(self.world.replicas.values()))
    def lose_replica(self):
        self.world.kill_replica(max(each for each, lives in self.world.replicas.items() if lives))

    @rule()
    @precondition(lambda self: self.moments > 5 and not self.draining)
    def drain(self):
        self.draining = True
        self.world.tell(inp.Drain(timeout_s=30.0))

    def teardown(self):
        if not hasattr(self, "world"):
            return
        world = self.world
        world.settle_all()
        if not self.draining:
            for job in world.core._state.jobs:
                # Undisturbed for a minute: it runs, was told to stop, or hangs unseen by nobody.
                assert job.state is JobState.RUNNING or job.stop_reason, job
        world.tell(inp.Drain(timeout_s=1.0))
        for _ in range(20):
            world.advance(10.0 if not world.drained else 0.0)
        assert world.drained == 1
        assert not len(world.core._state.jobs)
        if not world.restarts:
            assert set(world.generations) <= world.ended


TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    # A shrink would replay minutes of heartbeats hundreds of times.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def test_hundreds_of_calls_outlive_the_deaths_of_their_hosts():
    rng = random.Random(11)
    world = World(
        hosts=HostSettings(sessions_per_host=20, max_hosts=30, min_hosts=12, idle_hosts=3),
        rng=rng,
    )
    world.advance(5.0)
    for minute in range(6):
        for _ in range(60):
            world.offer()
            world.advance(rng.uniform(0.1, 1.0))
        busiest = max(world.living(), key=lambda host: len(host.orders))
        (world.kill if minute % 2 else world.hang)(busiest.host_id)
        world.advance(6.0)
        for job_id in rng.sample(sorted(world.generations), 20):
            world.finish(job_id)
    world.advance(40.0)

    answered = [event.outcome for event in world.of(ev.JobAnswered)]
    assert answered.count("accepted") == len(answered) == 360
    failovers = world.of(ev.FailoverDone)
    assert len(failovers) > 30
    assert {each.outcome for each in failovers} <= {"resumed", "ended"}
    assert max(each.gap_s for each in failovers) < 3.0
    # Nobody was lost: what is not running has been ended by its own life cycle.
    assert {event.outcome for event in world.of(ev.JobEnded)} == {"success"}
    assert all(job.state is JobState.RUNNING for job in world.core._state.jobs)
    assert len(world.core._state.jobs) + len(world.ended) == 360
    assert world.of(ev.TerminationIgnored)
