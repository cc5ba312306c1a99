"""Tells the test what a program observes: one datagram a fact, to the socket of the test."""

import json
import os
import socket

_PATH = os.environ["DROP_IN_SOCKET"]


def note(scene: str, fact: str, value: object = None) -> None:
    """Send a fact of a scene; waits when the test is slow to read."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outlet:
        outlet.sendto(json.dumps([scene, fact, value], default=str).encode(), _PATH)
