"""The livekit-agents plugins behind `voxray.STT`, `voxray.TTS` and `voxray.VAD`."""
