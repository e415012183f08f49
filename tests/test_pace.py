"""Answers to large refused requests leave one after the other."""

from itertools import pairwise

from kixo.http.pace import GAP_S, PROJECTS_KEPT, WAIT_S_MAX, RefusalPace


def test_the_first_refusal_of_a_project_is_answered_at_once() -> None:
    assert RefusalPace().wait_s("one", 5.0) == 0


def test_refusals_of_one_project_leave_one_after_the_other() -> None:
    pace = RefusalPace()
    leave = [5.0 + pace.wait_s("one", 5.0) for _ in range(10)]
    gaps = [later - earlier for earlier, later in pairwise(leave)]
    assert [round(gap, 9) for gap in gaps] == [GAP_S] * 9


def test_projects_do_not_wait_for_one_another() -> None:
    pace = RefusalPace()
    for _ in range(10):
        pace.wait_s("one", 5.0)
    assert pace.wait_s("two", 5.0) == 0


def test_no_answer_waits_longer_than_a_second() -> None:
    pace = RefusalPace()
    waits = [pace.wait_s("one", 5.0) for _ in range(1000)]
    assert max(waits) <= WAIT_S_MAX


def test_whoever_paused_is_answered_at_once() -> None:
    pace = RefusalPace()
    for _ in range(10):
        pace.wait_s("one", 5.0)
    assert pace.wait_s("one", 6.0) == 0


def test_what_is_remembered_is_bounded() -> None:
    pace = RefusalPace()
    for number in range(10 * PROJECTS_KEPT):
        pace.wait_s(str(number), float(number))
    assert len(pace._next_s) <= PROJECTS_KEPT
