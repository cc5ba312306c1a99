"""A replica is on the GPU that Ray gave it, or does not start."""

import pytest

from voxray.actors import devices
from voxray.actors.devices import device_of, mismatch, unseen
from voxray.base.errors import EngineConfigError


@pytest.mark.parametrize(
    ("gpus", "ids", "visible", "wrong"),
    [
        (0, [], None, ""),
        (0, [], "0,1", ""),
        (0.5, ["1"], "1", ""),
        (2, ["0", "3"], "0, 3", ""),
        (0.5, ["MIG-1f"], "MIG-1f", ""),
        (0.5, [], None, "it asked for 0.5 GPU and Ray assigned none"),
        (0.5, ["1"], None, "Ray assigned GPU 1 and CUDA_VISIBLE_DEVICES is not set"),
        (0.5, ["1"], "0", "Ray assigned GPU 1 and CUDA_VISIBLE_DEVICES is '0'"),
        (0.5, ["1"], "", "Ray assigned GPU 1 and CUDA_VISIBLE_DEVICES is ''"),
        (0.5, ["1"], "0,1", "Ray assigned GPU 1 and CUDA_VISIBLE_DEVICES is '0,1'"),
    ],
)
def test_what_is_visible_is_what_was_assigned(gpus, ids, visible, wrong):
    found = mismatch(gpus, ids, visible)
    assert found.startswith(wrong)
    assert bool(found) is bool(wrong)


def test_what_the_driver_shows_is_counted():
    assert unseen(1, 1) == ""
    assert unseen(1, 0) == "Ray assigned 1 and CUDA sees 0"
    assert "can't be loaded" in unseen(1, None)


def test_a_replica_that_is_not_pinned_fails_with_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_NVIDIA", tmp_path / "none")
    assert device_of("stt", 0, [], {}) == "cpu"
    assert device_of("stt", 0.5, ["1"], {"CUDA_VISIBLE_DEVICES": "1"}) == "logical-gpu:1"
    with pytest.raises(EngineConfigError) as caught:
        device_of("stt", 0.5, ["1"], {"CUDA_VISIBLE_DEVICES": "0"})
    assert str(caught.value) == (
        "a replica of group stt is not pinned to its GPU: Ray assigned GPU 1 and "
        "CUDA_VISIBLE_DEVICES is '0'; it is not started"
    )


def test_with_a_driver_cuda_itself_is_asked(monkeypatch, tmp_path):
    (tmp_path / "version").touch()
    monkeypatch.setattr(devices, "_NVIDIA", tmp_path / "version")
    monkeypatch.setattr(devices, "visible_cuda_devices", lambda: 1)
    environment = {"CUDA_VISIBLE_DEVICES": "1"}
    assert device_of("stt", 0.5, ["1"], environment) == "cuda:1"
    monkeypatch.setattr(devices, "visible_cuda_devices", lambda: 8)
    with pytest.raises(EngineConfigError, match="CUDA sees 8"):
        device_of("stt", 0.5, ["1"], environment)
