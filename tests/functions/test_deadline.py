"""The time that an invocation has left, as Lambda states it."""

from datetime import timedelta

import pytest
from punctual_core.deadline import Deadline

from tests.conftest import LambdaContext, at


def test_lambda_states_milliseconds():
    """12,345 ms left at 10:00:00: it ends at 10:00:12.345, and 12.345 seconds are left."""
    deadline = Deadline.of_invocation(LambdaContext(seconds_left=12.345), at("10:00"))
    assert deadline.ends_at == at("10:00:12.345")
    assert deadline.seconds_left() == 12.345


def test_lambda_is_asked_anew_each_time():
    """The deadline is a moment, not a duration that was read once."""
    context = LambdaContext(seconds_left=30)
    deadline = Deadline.of_invocation(context, at("10:00"))
    context._seconds_left = 7
    assert (deadline.seconds_left(), deadline.ends_at) == (7, at("10:00") + timedelta(seconds=30))


@pytest.mark.parametrize(("left", "until", "passed"), [(10, 5, False), (5.001, 0.001, False), (5, 0, False)])
def test_before_the_margin(left, until, passed):
    """Exactly at the margin it has not passed."""
    deadline = Deadline(at("10:00"), lambda: left)
    assert deadline.seconds_until(5) == pytest.approx(until)
    assert deadline.has_passed(5) is passed


def test_within_the_margin():
    """It has passed, and there is nothing to wait for: never a negative time."""
    deadline = Deadline(at("10:00"), lambda: 4.999)
    assert deadline.seconds_until(5) == 0 and deadline.has_passed(5)
