"""The pages of several dispatchers put together into the page of the app. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from voxray.dispatcher.peers import PeerAnswer

UNREACHABLE = "unreachable"
"""State of a dispatcher that does not answer."""
OVER = frozenset({"drained", "failed"})
"""States in which a dispatcher has no calls any more, and gets none."""

_LISTS = ("dispatchers", "hosts", "groups", "replicas", "waiting_jobs")


def merge_status(own: Mapping[str, Any], answers: Iterable[PeerAnswer]) -> dict[str, Any]:
    """Return the status of the app.

    The order is that of the dispatchers' numbers. Each replica, which all of them watch, and each
    group is there once: as the lowest-numbered dispatcher sees it, which is its owner while that
    one answers.

    Args:
        own: the asked dispatcher's own `/status`.
        answers: what the others answered.
    """
    (me,) = own["dispatchers"]
    statuses: dict[int, Mapping[str, Any]] = {int(me["index"]): own}
    for answer in answers:
        statuses[answer.index] = (
            answer.content if isinstance(answer.content, dict) else _missing(me["app"], answer)
        )
    ordered = [statuses[index] for index in sorted(statuses)]
    merged = {name: [each for one in ordered for each in one.get(name, ())] for name in _LISTS}
    merged["replicas"] = _first_of_each(merged["replicas"], lambda each: each["id"])
    merged["groups"] = _first_of_each(merged["groups"], lambda each: each["name"])
    # What only newer versions of the page hold is taken from the asked one.
    return {**own, **merged}


def merge_targets(
    own: Sequence[Mapping[str, Any]], answers: Iterable[PeerAnswer]
) -> list[Mapping[str, Any]]:
    """Return the scrape targets of the app, each address once."""
    others = [each for answer in answers for each in answer.content or ()]
    return _first_of_each([*own, *others], lambda each: each["targets"][0])


def all_over(answers: Iterable[PeerAnswer]) -> bool:
    """Whether no other dispatcher has calls or gets any, by their own `/status`.

    One that does not answer may have calls still: Ray restarts it.
    """
    return all(not answer.exists or state_of(answer) in OVER for answer in answers)


def state_of(answer: PeerAnswer) -> str:
    """Return a dispatcher's phase by its `/status`."""
    if not isinstance(answer.content, dict):
        return UNREACHABLE
    return str(answer.content["dispatchers"][0]["state"])


def _missing(app: str, answer: PeerAnswer) -> dict[str, Any]:
    return {
        "dispatchers": [
            {
                "app": app,
                "index": answer.index,
                "pid": None,
                "node": "",
                "state": UNREACHABLE if answer.exists else "ended",
                "reason": answer.fault,
                "registered": False,
                "worker_id": "",
                "slots": 0,
                "used": 0,
                "reserved": 0,
                "load": 0.0,
                "waiting_rooms": 0,
            }
        ]
    }


def _first_of_each(items: Iterable[Mapping[str, Any]], key: Any) -> list[Mapping[str, Any]]:
    kept: dict[Any, Mapping[str, Any]] = {}
    for item in items:
        kept.setdefault(key(item), item)
    return list(kept.values())
