import pytest

from tests.soak.ledger import JobRecord, Ledger, _fault_of

METRICS = """voxray_job_offers_total 2.0
voxray_job_answers_total{outcome="accepted"} 1.0
voxray_job_answers_total{outcome="full"} 1.0
voxray_jobs_ended_total{outcome="success"} 1.0
voxray_jobs_ended_total{outcome="rejected"} 1.0
voxray_job_placements_total{cause="new"} 1.0
"""
IDLE = {
    "dispatchers": [{"used": 0, "reserved": 0}],
    "hosts": [{"jobs": []}],
    "waiting_jobs": [],
}


def ledger():
    books = Ledger(None)
    for kind, job_id, fields in (
        ("JobOffered", "1", {"room": "a"}),
        ("JobAnswered", "1", {"outcome": "accepted"}),
        ("JobPlaced", "1", {}),
        ("JobRunning", "1", {}),
        ("JobEnded", "1", {"outcome": "success", "reason": ""}),
        ("JobOffered", "2", {"room": "b"}),
        ("JobAnswered", "2", {"outcome": "full"}),
        ("JobEnded", "2", {"outcome": "rejected", "reason": ""}),
    ):
        books._take({"type": kind, "job_id": job_id, **fields})
    return books


def test_books_that_add_up_have_no_fault():
    assert ledger().faults(METRICS, IDLE) == []


def test_a_lost_slot_a_lost_end_and_a_wrong_count_are_faults():
    held = IDLE | {"dispatchers": [{"used": 1, "reserved": 0}]}
    assert len(ledger().faults(METRICS, held)) == 1
    assert len(ledger().faults(METRICS.replace("offers_total 2", "offers_total 3"), IDLE)) == 1
    books = ledger()
    books.jobs["2"].ends.clear()
    assert len(books.faults(METRICS, IDLE)) == 3


@pytest.mark.parametrize(
    "job",
    [
        JobRecord(room="a", answers=["accepted"], placed=1, ends=[]),
        JobRecord(room="a", answers=["accepted"], placed=1, ends=[("success", "")] * 2),
        JobRecord(room="a", answers=["accepted", "full"], placed=1, ends=[("success", "")]),
        JobRecord(room="a", answers=["accepted"], placed=2, ends=[("success", "")]),
        JobRecord(room="a", answers=["full"], placed=1, ends=[("rejected", "")]),
        JobRecord(room="a", answers=["accepted"], placed=1, ends=[("rejected", "")]),
    ],
)
def test_a_job_that_is_kept_badly_is_a_fault(job):
    assert _fault_of(job)
