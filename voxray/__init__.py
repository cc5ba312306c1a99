"""LiveKit voice agents as actors on Ray."""
