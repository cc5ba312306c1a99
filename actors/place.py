"""Where an actor's process runs, and the steps of its shutdown."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from voxray.actors.contracts import Endpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process runs.

    Attributes:
        address: the address that other nodes reach it at; its servers listen there.
        node: Ray node id.
    """

    address: str
    node: str

    def endpoint(self, *, port: int, metrics_port: int) -> Endpoint:
        """Return the endpoint of this process."""
        return Endpoint(
            address=f"{self.address}:{port}",
            metrics=f"{self.address}:{metrics_port}",
            node=self.node,
            pid=os.getpid(),
        )


def quietly(close: Callable[[], object]) -> Callable[[], None]:
    """Return a step of a shutdown that never keeps the next one from running."""

    def step() -> None:
        try:
            close()
        except Exception:
            logger.exception("a step of the shutdown failed, the next one runs")

    return step
