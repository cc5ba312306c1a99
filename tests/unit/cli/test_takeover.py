"""What a start does about an app of its name that runs already."""

import pytest
from pydantic import SecretStr

from tests.fakes.dispatch_world import program
from voxray.base.errors import ConfigError
from voxray.base.settings import LiveKitSettings, RaySettings, Settings
from voxray.cli.takeover import RunningDispatcher, Takeover, decide, differences

SETTINGS = Settings(
    livekit=LiveKitSettings(url="ws://h:1", api_key="k", api_secret=SecretStr("first-secret"))
)
PROGRAM = program(version="1")


def running(phase="running", settings=SETTINGS, info=PROGRAM):
    return RunningDispatcher(phase=phase, settings=settings, program=info)


def act(*found, settings=SETTINGS, info=PROGRAM, replace=False):
    return decide(found, settings, info, replace=replace)


def test_nothing_runs():
    assert act() is Takeover.NOTHING
    assert act(running("drained"), running("failed")) is Takeover.NOTHING
    assert act(running("drained"), replace=True) is Takeover.NOTHING


@pytest.mark.parametrize("replace", [False, True])
def test_the_same_app_is_attached_to(replace):
    assert act(running(), running("starting"), replace=replace) is Takeover.ATTACH
    other_way_in = SETTINGS.model_copy(
        update={"ray": RaySettings(address="auto"), "drain_timeout_s": 3.0}
    )
    assert act(running(), settings=other_way_in, replace=replace) is Takeover.ATTACH


def test_another_version_needs_consent_and_keeps_the_calls():
    newer = program(version="2")
    with pytest.raises(ConfigError, match=r"another program or version.*--replace"):
        act(running(), info=newer)
    assert act(running(), info=newer, replace=True) is Takeover.RENEW


def test_other_settings_need_consent_and_are_named_without_their_values():
    secret = SETTINGS.livekit.model_copy(update={"api_secret": SecretStr("second-secret")})
    changed = SETTINGS.model_copy(update={"livekit": secret, "dispatchers": 2})
    assert sorted(differences(SETTINGS, changed)) == ["dispatchers", "livekit.api_secret"]
    with pytest.raises(ConfigError) as caught:
        act(running(), settings=changed)
    assert "dispatchers, livekit.api_secret" in str(caught.value)
    assert "-secret" not in str(caught.value).replace("api_secret", "")
    assert act(running(), settings=changed, replace=True) is Takeover.REPLACE


def test_a_draining_app_is_not_joined():
    with pytest.raises(ConfigError, match="is draining"):
        act(running("draining"))
    assert act(running("draining"), replace=True) is Takeover.REPLACE
