"""Why a replica can't be placed, as `voxray status` says it."""

import pytest

from voxray.base.settings import ReplicaGroupSettings
from voxray.dispatcher.shortage import needs_of, what_is_missing


def group(**fields):
    return ReplicaGroupSettings(name="stt", engines=("pocketsphinx",), **fields)


@pytest.mark.parametrize(
    ("fields", "free", "total", "labels", "expected"),
    [
        ({"gpus": 0.5}, {"CPU": 4}, {"GPU": 2, "CPU": 8}, [], "waits for 0.5 GPU: 0 of 2 free"),
        ({"gpus": 0.5}, {"CPU": 4}, {"CPU": 8}, [], "waits for 0.5 GPU: 0 of 0 free"),
        ({"gpus": 0.5}, {"GPU": 0.5, "CPU": 4}, {"GPU": 2, "CPU": 8}, [], ""),
        (
            {"gpus": 1, "cpus": 2},
            {"GPU": 0.75, "CPU": 1},
            {"GPU": 2, "CPU": 8},
            [],
            "waits for 1 GPU: 0.75 of 2 free; 2 CPU: 1 of 8 free",
        ),
        (
            {"gpus": 1, "accelerator_type": "L4"},
            {"GPU": 2, "CPU": 4},
            {"GPU": 2, "CPU": 8, "accelerator_type:A100": 1},
            [],
            "waits for a GPU of type L4: no node has one",
        ),
        (
            {"gpus": 0, "node_labels": {"zone": "a", "disk": "ssd"}},
            {"CPU": 4},
            {"CPU": 8},
            [{"zone": "a"}, {"disk": "ssd"}],
            "waits for a node labelled disk=ssd, zone=a: there is none",
        ),
        (
            {"gpus": 0, "node_labels": {"zone": "a"}},
            {"CPU": 4},
            {"CPU": 8},
            [{"zone": "b"}, {"zone": "a"}],
            "",
        ),
    ],
)
def test_it_names_what_no_node_has(fields, free, total, labels, expected):
    wanted = group(**fields)
    said = what_is_missing(needs_of(wanted), free, total, wanted.node_labels, labels)
    assert said == expected
