"""The simulation of the placement benchmark, small: it checks itself that nothing is left over."""

import pytest

from benchmarks.placement_at_scale import Simulation


@pytest.mark.parametrize(("hosts", "calls"), [(5, 300), (40, 600)])
def test_a_fleet_comes_through_arrivals_ends_and_deaths(hosts, calls):
    figures = Simulation(hosts, calls, seed=1).run()
    assert figures["outcomes"]["offered"] == calls
    assert figures["outcomes"]["resumed"] > 0
    assert figures["offer"]["count"] == calls
