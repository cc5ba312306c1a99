"""How livekit-agents knows that voxray's plugins are there."""

import importlib.metadata
import logging
import threading

from livekit.agents import Plugin

logger = logging.getLogger("voxray.plugins")

_TITLE = "voxray"


class VoxrayPlugin(Plugin):
    """Lists voxray among the plugins of a program; there are no files to download."""

    def __init__(self) -> None:
        super().__init__(_TITLE, importlib.metadata.version("voxray"), "voxray", logger)


def register() -> bool:
    """List the plugin, once; return whether it is listed.

    livekit-agents refuses to list a plugin off the main thread. A program may well touch
    `voxray.STT` first inside a job, which runs on another thread there; the list only serves
    `download-files` and the worker's start, so the plugins work without it.
    """
    if any(isinstance(plugin, VoxrayPlugin) for plugin in Plugin.registered_plugins):
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    Plugin.register_plugin(VoxrayPlugin())
    return True
