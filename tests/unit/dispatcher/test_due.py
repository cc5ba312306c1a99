from voxray.dispatcher.due import DueTimes


def test_keys_come_in_the_order_of_their_times():
    due = DueTimes()
    due.set("b", 2.0)
    due.set("a", 1.0)
    due.set("c", 3.0)
    assert due.next() == 1.0
    assert list(due.pop_due(2.0)) == ["a", "b"]
    assert due.next() == 3.0
    assert len(due) == 1


def test_the_last_time_set_counts():
    due = DueTimes()
    due.set("a", 1.0)
    due.set("a", 5.0)
    due.set("b", 2.0)
    assert due.get("a") == 5.0
    assert list(due.pop_due(4.0)) == ["b"]
    due.set("a", 3.0)
    assert list(due.pop_due(4.0)) == ["a"]
    assert due.next() is None


def test_a_dropped_key_is_never_due():
    due = DueTimes()
    due.set("a", 1.0)
    due.drop("a")
    due.drop("a")
    assert due.next() is None
    assert list(due.pop_due(9.0)) == []


def test_a_key_set_again_while_its_turn_is_taken_waits_for_its_new_time():
    due = DueTimes()
    due.set("a", 1.0)
    for key in due.pop_due(1.0):
        due.set(key, 2.0)
    assert due.next() == 2.0
