"""Full collections pass over what survived one, and a sweep does not."""

import gc
import weakref

import pytest

from voxray.dispatcher.collector import Collector


class Thing:
    def __init__(self):
        self.itself = self


@pytest.fixture
def collector():
    one = Collector()
    one.start()
    yield one
    one.stop()


def test_what_is_new_is_collected_as_ever(collector):
    gone = weakref.ref(Thing())
    gc.collect()
    assert gone() is None


def test_what_survived_is_not_looked_at_again(collector):
    before = gc.get_freeze_count()
    kept = [Thing() for _ in range(1000)]
    gc.collect()
    assert gc.get_freeze_count() >= before + len(kept)
    assert len(gc.get_objects(generation=2)) < len(kept)


def test_a_sweep_finds_what_became_garbage_later(collector):
    thing = Thing()
    gc.collect()
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert gone() is not None
    collector.sweep()
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_it_leaves_the_collector_as_it_was():
    callbacks = list(gc.callbacks)
    one = Collector()
    one.start()
    one.stop()
    one.stop()
    assert gc.callbacks == callbacks
    assert gc.get_freeze_count() == 0
