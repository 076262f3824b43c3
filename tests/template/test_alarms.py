"""Each failure turns an alarm on, within minutes, that is published to the alarm topic; and nothing else does."""

import pytest

from tests.template import recording
from tests.template.cloudwatch import Minutes, minutes_on
from tools.cloudformation import Template

TEMPLATE = Template(Probe="true")
ALARMS = TEMPLATE.deployed("AWS::CloudWatch::Alarm")
# Metrics that are not counts -> their units, which are those of the thresholds.
UNITS = {"Overdue": "Seconds", "Lateness": "Milliseconds"}


def dimension(namespace: str, resource: str) -> tuple[str, str]:
    """The name and value of the dimension of a metric of a resource; our own are kept by stack."""
    match namespace:
        case "Punctual":
            return "service", "punctual"
        case "AWS/States":
            return "StateMachineArn", TEMPLATE.arn(resource)
    # The names that `Template` makes up are the logical ids.
    return {"AWS/SQS": "QueueName", "AWS/SNS": "TopicName", "AWS/Lambda": "FunctionName"}[namespace], resource


def each_minute(*values: float | None, every: int = 1) -> Minutes:
    """One value in each minute, or in the first of `every` minutes; None is a minute without a value."""
    return [[] if value is None or later else [value] for value in values for later in range(every)]


# One is too much, at once, and only for the minute in which it was.
AT_ONCE = [(each_minute(0, 1, 0, None, 3, None), {1, 4}), ([[0, 1], [0]], {0})]


DELAYS = [(each_minute(10, 299, 300, 301, 300, 900, None), {3, 5}), ([[200, 200], [10, 301], [301, 10]], {1, 2})]
# A message that fails now and then is not worth a call at night.
OFTEN = [
    (each_minute(5, None, None, 1, every=10), set()),
    (each_minute(*[1] * 10, *[None] * 30), set()),
    (each_minute(1, 1, None, None, every=10), {*range(19, 39)}),
]
OVERDUE = [(each_minute(0.5, 60, 61, None), {2}), ([[40, 40], [5, 61], [61, 5]], {1, 2})]
# An interval of 60 s has one sweep in a minute, or none, if it falls just outside.
NO_SWEEPS = [
    (each_minute(1, 12, 0, 0, 1, 0, 0, None, 1), {7}),
    (each_minute(12, 1, None, None, None, None, 1), {4, 5}),
]
PROBES = [
    # A value of 0 is an event of the probe on time, and two in a minute are none too many.
    (each_minute(0, 0, 40, None, None, None, 0), {5}),
    ([[0, 0]] * 5, set()),
    (each_minute(*[1000] * 6), set()),
    (each_minute(*[1001] * 4, 1000, *[1001] * 5, 12), {9}),
    ([[30] * 98 + [5000] * 2] * 6, {4, 5}),  # Beyond the 99th percentile, which one of a hundred is not.
    ([[30] * 99 + [5000]] * 6, set()),
]
# What can go wrong: namespace, metric, and resource that show it, and series with the minutes of an alarm.
FAILURES = [
    *(("AWS/Lambda", name, id, AT_ONCE) for id in ("Ingest", "Sweeper", "Hold") for name in ("Errors", "Throttles")),
    *(("AWS/States", f"Executions{how}", id, AT_ONCE) for id in ("Deliver", "Sweep") for how in ("Failed", "TimedOut")),
    *(("AWS/SQS", "ApproximateNumberOfMessagesVisible", id, AT_ONCE) for id in ("InputDeadLetters", "Undelivered")),
    ("AWS/SNS", "NumberOfNotificationsFailed", "InputTopic", AT_ONCE),
    ("AWS/SNS", "NumberOfNotificationsFailedToRedriveToDlq", "InputTopic", AT_ONCE),
    ("AWS/SQS", "ApproximateAgeOfOldestMessage", "InputQueue", DELAYS),
    ("Punctual", "Failed", "Ingest", OFTEN),
    ("Punctual", "Retries", "Sweeper", AT_ONCE),
    ("Punctual", "Overdue", "Sweeper", OVERDUE),
    ("AWS/Lambda", "Invocations", "Sweeper", NO_SWEEPS),
    ("Punctual", "Lateness", "ProbeFunction", PROBES),
]


def alarms_of(namespace: str, metric: str, resource: str) -> list[str]:
    """The alarms that watch a metric of a resource."""
    name, value = dimension(namespace, resource)
    watched = {"Namespace": namespace, "MetricName": metric, "Dimensions": [{"Name": name, "Value": value}]}
    return [alarm for alarm, properties in ALARMS.items() if properties | watched == properties]


@pytest.mark.parametrize(("namespace", "metric", "resource", "series"), FAILURES)
def test_a_failure_turns_an_alarm_on(namespace, metric, resource, series):
    """For the values that a metric gets in each minute, an alarm is on in these minutes and in no others. A metric of
    our own is one that the function has emitted."""
    if namespace == "Punctual":
        assert recording.of_functions()[resource].metrics[metric] == UNITS.get(metric, "Count")
    for values, expected in series:
        on = [minutes_on(ALARMS[alarm], values) for alarm in alarms_of(namespace, metric, resource)]
        assert set().union(*on) == expected, values


def test_a_message_that_fails_for_days_keeps_its_alarm_on():
    """Ingest puts its attempts up to ten minutes apart, and they come a little later: a period of the alarm may have
    none."""
    minutes: Minutes = [[] for _ in range(24 * 60)]
    for second in range(0, 24 * 3600, 600 + 15):
        minutes[second // 60].append(1)
    on = minutes_on(ALARMS["MessageFailuresAlarm"], minutes)
    assert on == {*range(min(on), len(minutes))} and min(on) < 30


def test_silence():
    """Without any values, only the alarms for what has stopped are on, and not before three minutes."""
    for name, alarm in ALARMS.items():
        on = minutes_on(alarm, each_minute(*[1] * 40, *[None] * 100))
        if name in ("NoSweepAlarm", "ProbeMissingAlarm"):
            assert on == {*range(42, 140)}
        else:
            assert not {minute for minute in on if minute >= 40 + 3 * alarm["Period"] // 60}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_published(name):
    """To the alarm topic, with what happened and what to do about it, and only when it turns on: it watches one of the
    metrics above."""
    assert name in {alarm for *metric, _ in FAILURES for alarm in alarms_of(*metric)}
    alarm = ALARMS[name]
    assert alarm["AlarmActions"] == [TEMPLATE.arn("AlarmTopic")]
    assert alarm.get("ActionsEnabled", True) is True
    assert len(alarm["AlarmDescription"].split(". ")) >= 2
    assert not alarm.keys() & {"OKActions", "InsufficientDataActions", "Metrics", "Unit"}
