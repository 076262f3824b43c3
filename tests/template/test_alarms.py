"""The alarms: what each watches, which values turn it on, and whom it tells."""

import itertools
import re

import pytest
from punctual_core.ingest import MAX_RETRY_DELAY_SECONDS

from tests.template import recording
from tests.template.cloudwatch import ALARM, OK, OWN_GAUGES, states, statistics_of, watched
from tools.cloudformation import Template

TEMPLATE = Template(Probe="true")
ALARMS = TEMPLATE.resources("AWS::CloudWatch::Alarm")
each_alarm = pytest.mark.parametrize("name", ALARMS)


def minutes(*values: float | None, every: int = 1) -> list[list[float]]:
    """One value in each minute, or in the first of `every` minutes; None is a minute without a value."""
    return [[] if value is None or later else [value] for value in values for later in range(every)]


# --- Which values turn it on ------------------------------------------------------------------------------------------

# One is too much, at once, and only for the minute in which it was.
ANY = minutes(0, 1, 0, None, 3, None, None), [OK, ALARM, OK, OK, ALARM, OK, OK]
# Alarm -> series of (values in each minute, states at their ends).
SERIES = {
    "DeadLettersAlarm": [ANY],
    "UndeliveredAlarm": [ANY],
    "InputNotDeliveredAlarm": [ANY],
    "InputLostAlarm": [ANY],
    "InputDelayAlarm": [
        (minutes(10, 299, 300, 301, 300, 900, None), [OK, OK, OK, ALARM, OK, ALARM, OK]),
        ([[200, 200], [10, 301]], [OK, ALARM]),
    ],
    # A message that fails once or twice is not worth a call at night: in two periods of the longest pause between its
    # attempts it has failed often.
    "MessageFailuresAlarm": [
        (minutes(5, 0, 1, None, every=10), [OK] * 40),
        (minutes(1, 1, None, every=10), [OK] * 19 + [ALARM] * 10 + [OK]),
        (minutes(*[1] * 9, None, every=1), [OK] * 10),
    ],
    "RetriesAlarm": [ANY],
    "OverdueAlarm": [
        (minutes(0.5, 60, 61, None), [OK, OK, ALARM, OK]),
        ([[40, 40], [5, 61], [61, 5]], [OK, ALARM, ALARM]),
    ],
    "DeliverFailedAlarm": [ANY],
    "DeliverTimedOutAlarm": [ANY],
    "SweepFailedAlarm": [ANY],
    "SweepTimedOutAlarm": [ANY],
    "IngestFunctionErrorsAlarm": [ANY],
    "IngestThrottlesAlarm": [ANY],
    "SweeperFunctionErrorsAlarm": [ANY],
    "SweeperThrottlesAlarm": [ANY],
    "HoldFunctionErrorsAlarm": [ANY],
    "HoldThrottlesAlarm": [ANY],
    # An interval of 60 s has one sweep in a minute, or none, if it falls just outside.
    "NoSweepAlarm": [
        (minutes(1, 1, 12, 1), [OK] * 4),
        (minutes(1, 0, 0, 1, 0, 0), [OK] * 6),
        (minutes(1, 0, 0, 0, 1), [OK, OK, OK, ALARM, OK]),
    ],
    # A value of 0 is an event on time, and two in a minute are none too many.
    "ProbeMissingAlarm": [(minutes(0, 0, 40, 0, 0), [OK] * 5), ([[0, 0]] * 5, [OK] * 5)],
    "ProbeLateAlarm": [
        (minutes(*[1000] * 6), [OK] * 6),
        (minutes(*[1001] * 4, 1000, *[1001] * 5, 12), [OK] * 9 + [ALARM, OK]),
        (minutes(*[1001] * 4, None, None, 1001), [OK] * 7),
        (minutes(*[1001] * 5, None), [OK] * 4 + [ALARM, OK]),
        # Two of a hundred late are beyond the 99th percentile, one is not.
        ([[30] * 98 + [5000] * 2] * 6, [OK] * 4 + [ALARM] * 2),
        ([[30] * 99 + [5000]] * 6, [OK] * 6),
    ],
}


@each_alarm
def test_values_that_turn_an_alarm_on(name):
    """The state of each alarm in every minute of these series."""
    for values, expected in SERIES[name]:
        assert states(TEMPLATE.properties(name), values) == expected, values


SILENCE_IS_BAD = {"NoSweepAlarm", "ProbeMissingAlarm"}


@each_alarm
@pytest.mark.parametrize("more_points", [0, 2])
def test_silence(name, more_points):
    """Without values for some minutes, the alarms for what has stopped are on, and all others off."""
    alarm = TEMPLATE.properties(name)
    before = minutes(*[1] * alarm["EvaluationPeriods"], every=max(alarm["Period"] // 60, 1))
    silence = minutes(*[None] * (3 + more_points + 60 * (name not in SILENCE_IS_BAD)))
    in_silence = states(alarm, before + silence, more_points)
    assert in_silence[-1] == (ALARM if name in SILENCE_IS_BAD else OK)
    if name in SILENCE_IS_BAD:  # Not before three minutes.
        assert ALARM not in in_silence[: len(before) + 2]


def test_a_message_fails_in_two_periods():
    """The period is the longest pause between two attempts of a message, so a failing one fails in each period."""
    assert TEMPLATE.properties("MessageFailuresAlarm")["Period"] == MAX_RETRY_DELAY_SECONDS


def test_units():
    """What the thresholds mean: seconds for Overdue, milliseconds for Lateness, and counts for the rest."""
    units = {
        metric["Name"]: metric["Unit"]
        for recorded in recording.of_functions().values()
        for line in recorded.metrics
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    }
    assert {name: unit for name, unit in units.items() if unit != "Count"} == {
        "Overdue": "Seconds",
        "Lateness": "Milliseconds",
    }
    assert {*OWN_GAUGES} == {"Overdue", "Lateness"}


# --- What is watched --------------------------------------------------------------------------------------------------

# Alarm -> metric, and the resource that it is about ("" for the whole stack).
WATCHES = {
    # The two queues that hold what was not delivered and not reported.
    "DeadLettersAlarm": ("ApproximateNumberOfMessagesVisible", "InputDeadLetters"),
    "UndeliveredAlarm": ("ApproximateNumberOfMessagesVisible", "Undelivered"),
    # From the input topic to the input queue, and in it.
    "InputNotDeliveredAlarm": ("NumberOfNotificationsFailed", "InputTopic"),
    "InputLostAlarm": ("NumberOfNotificationsFailedToRedriveToDlq", "InputTopic"),
    "InputDelayAlarm": ("ApproximateAgeOfOldestMessage", "InputQueue"),
    # What becomes of events.
    "MessageFailuresAlarm": ("Failed", ""),
    "RetriesAlarm": ("Retries", ""),
    "OverdueAlarm": ("Overdue", ""),
    "DeliverFailedAlarm": ("ExecutionsFailed", "Deliver"),
    "DeliverTimedOutAlarm": ("ExecutionsTimedOut", "Deliver"),
    # What does it.
    "SweepFailedAlarm": ("ExecutionsFailed", "Sweep"),
    "SweepTimedOutAlarm": ("ExecutionsTimedOut", "Sweep"),
    "IngestFunctionErrorsAlarm": ("Errors", "Ingest"),
    "IngestThrottlesAlarm": ("Throttles", "Ingest"),
    "SweeperFunctionErrorsAlarm": ("Errors", "Sweeper"),
    "SweeperThrottlesAlarm": ("Throttles", "Sweeper"),
    "HoldFunctionErrorsAlarm": ("Errors", "Hold"),
    "HoldThrottlesAlarm": ("Throttles", "Hold"),
    "NoSweepAlarm": ("Invocations", "Sweeper"),
    "ProbeMissingAlarm": ("Lateness", ""),
    "ProbeLateAlarm": ("Lateness", ""),
}


@each_alarm
def test_alarm_watches_a_metric_of_this_stack(name):
    """An alarm's metric is one that AWS documents for a resource of this stack, or one that a function emits, by a
    statistic that is meaningful for it."""
    alarm = TEMPLATE.properties(name)
    [dimension] = alarm["Dimensions"]
    resource = watched(TEMPLATE, alarm["Namespace"], alarm["MetricName"], dimension["Name"], dimension["Value"])
    assert (alarm["MetricName"], resource) == WATCHES[name]
    [statistic] = [alarm[key] for key in ("Statistic", "ExtendedStatistic") if key in alarm]
    assert statistic in statistics_of(alarm["Namespace"], alarm["MetricName"])


def test_every_way_to_fail_has_an_alarm():
    """Each state machine's failures and time-outs, each function's errors and throttles, each queue that has to stay
    empty. Of the functions, the probe's is seen when its metric is missing."""
    assert {*WATCHES} == {*ALARMS}
    watched = {*WATCHES.values()}
    for machine, metric in itertools.product(
        TEMPLATE.deployed("AWS::Serverless::StateMachine"), ("ExecutionsFailed", "ExecutionsTimedOut")
    ):
        assert (metric, machine) in watched
    for function, metric in itertools.product(TEMPLATE.deployed("AWS::Serverless::Function"), ("Errors", "Throttles")):
        assert (metric, function) in watched or function == "ProbeFunction"


# --- Whom it tells ----------------------------------------------------------------------------------------------------


@each_alarm
def test_alarm_tells_the_operator(name):
    """Each alarm is published to the alarm topic, with what happened and what to do about it."""
    alarm = TEMPLATE.properties(name)
    assert alarm["AlarmActions"] == [TEMPLATE.arn("AlarmTopic")]
    assert alarm.get("ActionsEnabled", True)
    assert len(re.split(r"[.:?;,] ", alarm["AlarmDescription"])) >= 2


@each_alarm
def test_alarm_names_what_exists(name):
    """A description names queues, functions and alarms as the stack does."""
    named = re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", ALARMS[name]["Properties"]["AlarmDescription"])
    assert {*named} <= {*TEMPLATE.text["Resources"], "CloudWatch"}


def test_probes_alarms_exist_with_the_probe():
    """Without the probe there would be no values, and an alarm forever."""
    assert {name for name in ALARMS if not Template().exists(name)} == {"ProbeMissingAlarm", "ProbeLateAlarm"}


def test_alarms_are_mailed_to_the_address_given():
    """With AlarmEmail that address is subscribed to the alarm topic, without it nobody is."""
    assert not Template().exists("AlarmSubscription")
    template = Template(AlarmEmail="night@example.com")
    assert template.exists("AlarmSubscription")
    assert template.properties("AlarmSubscription") == {
        "TopicArn": template.arn("AlarmTopic"),
        "Protocol": "email",
        "Endpoint": "night@example.com",
    }
