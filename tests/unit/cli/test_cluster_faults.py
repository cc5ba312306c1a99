"""A Ray that does not start, or can't be joined, is one clear error whatever Ray raises."""

import os
from unittest import mock

import pytest

from voxray.base.errors import ConfigError, ConnectionFailedError, CredentialsError
from voxray.base.settings import RaySettings
from voxray.cli import cluster

DASHBOARD = (
    "\nThe last 20 lines of /tmp/dashboard.log (it contains the error message): \nINFO head.py"
)


def join(monkeypatch, error, address=""):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cluster, "_start_local", fail)
    monkeypatch.setattr(cluster, "_connect", fail)
    with mock.patch.dict(os.environ):
        cluster.join(RaySettings(address=address), namespace="app", log_to_driver=False)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Exception(DASHBOARD), "VOXRAY_RAY__DASHBOARD=false"),
        (RuntimeError("no room\nat all"), "could not start Ray: no room"),
        (AssertionError(), "could not start Ray: AssertionError"),
    ],
)
def test_a_local_ray_that_does_not_start(monkeypatch, error, said):
    with pytest.raises(ConnectionFailedError) as caught:
        join(monkeypatch, error)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_cluster_that_is_not_there(monkeypatch):
    with pytest.raises(ConnectionFailedError, match="join the Ray cluster at nowhere: gone"):
        join(monkeypatch, Exception("gone"), "nowhere")


def test_a_cluster_that_asks_for_a_token(monkeypatch):
    with pytest.raises(CredentialsError, match="RAY_AUTH_MODE"):
        join(monkeypatch, RuntimeError("Unauthorized"), "nowhere")


def test_an_error_of_ours_stays_as_it_is(monkeypatch):
    with pytest.raises(ConfigError, match="its folder"):
        join(monkeypatch, ConfigError("its folder can't be made"))
