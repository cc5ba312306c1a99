"""The livekit-agents plugins behind `voxray.STT`, `voxray.TTS` and `voxray.VAD`."""

from voxray.pipelines.plugins.registration import register

# As every plugin of livekit-agents does: importing it lists it.
register()
