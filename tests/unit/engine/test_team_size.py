"""The number of threads follows what steps take: scripted times, no clock."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from workbench.engine.team_size import TeamSize


def sizes(team: TeamSize, steps: int, seconds: Callable[[int], float]) -> list[int]:
    """The number of threads of each of some steps, which take as long as their number of threads says."""
    used = []
    for _ in range(steps):
        used.append(team.threads)
        team.record(seconds(team.threads))
    return used


def test_a_quiet_machine_is_used_whole() -> None:
    assert set(sizes(TeamSize(4), 500, lambda threads: 1 / threads)) == {4}


def test_steps_that_grow_with_the_text_disturb_nobody() -> None:
    team, used = TeamSize(2), []
    for step in range(2000):
        used.append(team.threads)
        team.record((1 + step / 1000) / team.threads)
    assert set(used) == {2}


def test_a_busy_core_is_left_alone_and_taken_back_when_it_is_free() -> None:
    team = TeamSize(2)
    sizes(team, 60, lambda threads: 1 / threads)
    busy = sizes(team, 600, lambda threads: 2.5 if threads == 2 else 1.0)
    assert busy[-100:].count(1) > 90
    assert busy.count(1) > 500
    freed = sizes(team, 1000, lambda threads: 1 / threads)
    assert set(freed[-100:]) == {2}


def test_of_many_cores_one_is_given_up() -> None:
    team = TeamSize(8)
    sizes(team, 60, lambda threads: 1 / threads)
    busy = sizes(team, 600, lambda threads: 3.0 if threads == 8 else 1 / threads)
    assert busy[-100:].count(7) > 85


def test_a_machine_that_is_slow_as_a_whole_is_used_whole() -> None:
    team = TeamSize(2)
    sizes(team, 60, lambda threads: 1 / threads)
    slow = sizes(team, 600, lambda threads: 3 / threads)
    assert slow.count(2) > 550


@given(threads=st.integers(1, 64), times=st.lists(st.floats(0, 1e6), max_size=300))
def test_whatever_steps_take_the_number_is_one_that_the_team_has(threads: int, times: list[float]) -> None:
    team = TeamSize(threads)
    for seconds in times:
        assert 1 <= team.threads <= threads
        team.record(seconds)
