"""Engines run without a host: one item at a time, everything emitted kept."""

import pytest

from voxray.pipelines.engines.base import WorkItem


class Bench:
    def __init__(self, engine):
        self.engine = engine
        self.sessions = []
        engine.load()

    def open(self, **options):
        session = self.engine.open(options)
        self.sessions.append(session)
        return session

    def run(self, session, *inputs, cancelled=lambda: False):
        outputs = []
        self.emit_into(session, outputs, *inputs, cancelled=cancelled)
        return outputs

    def emit_into(self, session, outputs, *inputs, cancelled=lambda: False):
        item = WorkItem(session, tuple(inputs), outputs.append, cancelled)
        (error,) = self.engine.run_batch([item])
        if error is not None:
            raise error

    def close(self):
        for session in self.sessions:
            session.close()
            session.close()
        self.engine.close()
        self.engine.close()


@pytest.fixture
def bench():
    benches = []

    def make(engine):
        benches.append(Bench(engine))
        return benches[-1]

    yield make
    for made in benches:
        made.close()
