import re

import pytest

from voxray.base.ids import (
    HostId,
    dispatcher_actor_name,
    dispatcher_of_host,
    host_actor_name,
    host_of_actor_name,
    new_host_id,
    replica_actor_name,
    replica_of_actor_name,
)


def test_host_ids_are_eight_hex_digits_and_differ():
    ids = {new_host_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{8}", each) for each in ids)


def test_a_host_id_tells_whose_it_is():
    assert dispatcher_of_host(new_host_id()) == 0
    assert dispatcher_of_host(new_host_id(12)) == 12
    assert re.fullmatch(r"3-[0-9a-f]{8}", new_host_id(3))
    assert dispatcher_of_host(HostId("0badcafe")) == 0
    names = [dispatcher_actor_name(index) for index in range(3)]
    assert names == ["dispatcher", "dispatcher-1", "dispatcher-2"]
    host = new_host_id(2)
    assert host_of_actor_name(host_actor_name(host)) == host
    assert not any(host_of_actor_name(name) or replica_of_actor_name(name) for name in names)


def test_actor_names_lead_back_to_their_ids():
    host = new_host_id()
    assert host_of_actor_name(host_actor_name(host)) == host
    assert replica_of_actor_name(replica_actor_name("speech-gpu-0")) == "speech-gpu-0"


@pytest.mark.parametrize("name", ["dispatcher", "", "hosts", "my-host-1", "replica"])
def test_other_names_are_nobodys(name):
    assert host_of_actor_name(name) is None
    assert replica_of_actor_name(name) is None


def test_hosts_and_replicas_are_not_mixed_up():
    assert replica_of_actor_name(host_actor_name("aa")) is None
    assert host_of_actor_name(replica_actor_name("aa-1")) is None
