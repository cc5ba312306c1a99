import threading

import pytest
from livekit.agents import Plugin

from voxray.pipelines.plugins import registration


@pytest.fixture(autouse=True)
def _empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugin, "registered_plugins", [])


def test_the_plugin_is_listed_once() -> None:
    assert registration.register()
    assert registration.register()
    (plugin,) = Plugin.registered_plugins
    assert (plugin.title, plugin.package) == ("voxray", "voxray")
    assert plugin.version
    assert plugin.logger is not None


def test_off_the_main_thread_it_is_left_out() -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(registration.register()))
    thread.start()
    thread.join()

    assert answers == [False]
    assert Plugin.registered_plugins == []
