import io

from rich.console import Console

from voxray.cli.top_view import figures, quantile, render

HOST = {"id": "h1", "pid": 5, "state": "ready", "capacity": 4, "loop_lag_s": 0.012}


def shown(what, **options):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(what, **options))
    return console.export_text()


def test_quantiles_are_values_that_were_measured():
    assert quantile([], 0.5) is None
    assert quantile([3.0], 0.95) == 3.0
    values = [float(each) for each in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.95), quantile(values, 1.0)) == (50, 95, 100)


def test_an_answer_of_another_version_is_shown_as_far_as_it_goes():
    empty = figures({}, (), {})
    assert empty["totals"]["slots"] == 0
    text = shown(empty, rooms=False)
    assert "Hosts: none" in text
    assert "p50 -" in text
    odd = figures({"hosts": [{"id": None, "jobs": "many"}, 3], "dispatchers": None}, [{}], {})
    assert odd["hosts"][0]["calls"] == 0
    shown(odd, rooms=True)


def test_sums_and_shares():
    dispatchers = [
        {"app": "a", "state": "running", "registered": True, "slots": 4, "used": 1, "load": 0.2},
        {"slots": 8, "used": 2, "reserved": 1, "load": 0.4, "waiting_rooms": 3},
    ]
    jobs = [{"id": f"AJ_{number}", "room": "r"} for number in range(2)]
    what = figures({"dispatchers": dispatchers, "hosts": [HOST | {"jobs": jobs}]}, (), {5: 2**30})
    assert what["totals"] == {
        "hosts": 1,
        "slots": 12,
        "used": 3,
        "reserved": 1,
        "load": 0.4,
        "calls": 2,
        "waiting_jobs": 0,
        "waiting_rooms": 3,
    }
    assert what["hosts"][0]["load"] == 0.5
    text = shown(what, rooms=False)
    for part in ("3 + 1 reserved of 12 slots", "3 waiting", "2/4", "0.50", "12 ms", "1024 MiB"):
        assert part in text


def test_a_terminal_holds_only_so_many_calls():
    jobs = [{"id": f"AJ_{number}", "room": "r"} for number in range(100)]
    text = shown(figures({"hosts": [HOST | {"jobs": jobs}]}, (), {}), rooms=True)
    assert "AJ_39 " in text
    assert "AJ_40" not in text
    assert "and 60 more" in text
