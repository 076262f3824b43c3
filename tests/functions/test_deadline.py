"""The time that an invocation has left, as Lambda states it."""

import pytest
from punctual_core.deadline import Deadline

from tests.conftest import LambdaContext, at


def test_lambda_states_milliseconds_and_is_asked_anew_each_time():
    """The deadline is a moment, not a duration that was read once."""
    context = LambdaContext(seconds_left=12.345)
    deadline = Deadline.of_invocation(context, at("10:00"))
    assert (deadline.ends_at, deadline.seconds_left()) == (at("10:00:12.345"), 12.345)
    context._seconds_left = 7
    assert (deadline.ends_at, deadline.seconds_left()) == (at("10:00:12.345"), 7)


@pytest.mark.parametrize(
    ("left", "until", "passed"), [(10, 5, False), (5.001, 0.001, False), (5, 0, False), (4.999, 0, True)]
)
def test_a_margin_before_the_end(left, until, passed):
    """Exactly at the margin it has not passed; after it there is nothing to wait for, and never a negative time."""
    deadline = Deadline(at("10:00"), lambda: left)
    assert deadline.seconds_until(5) == pytest.approx(until)
    assert deadline.has_passed(5) is passed
