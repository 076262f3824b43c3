"""`punctual resend` publishes undelivered events again. An event leaves the queue only when the input topic has it."""

import json


def test_an_event_is_published_again_under_its_id(stack, punctual):
    """Otherwise nobody could cancel it, or recognize its repeat."""
    stack.add_undelivered({"date": "2026-12-24T18:00:00Z", "payload": "ä"})
    result = punctual("resend")
    assert (result.code, result.error) == (0, "")
    assert result.output == "published again: order-4711 (not delivered: ...)\n"
    [sent] = stack.received()
    assert json.loads(sent) == {"date": "2026-12-24T18:00:00Z", "payload": "ä", "id": "order-4711"}
    assert stack.left() == 0


def test_a_message_that_is_not_an_event_is_published_unchanged(stack, punctual):
    for event in ("not JSON", {"cancel": "order-4711", "user": "me"}):
        stack.add_undelivered(event)
    assert punctual("resend").code == 0
    assert set(stack.received()) == {"not JSON", '{"cancel":"order-4711","user":"me"}'}
    assert stack.left() == 0


def test_an_event_that_the_input_topic_refuses_stays(stack, punctual):
    stack.add_undelivered({"payload": "x"})
    stack.outputs["InputTopicArn"] += "-gone"
    result = punctual("resend")
    assert result.code == 1
    assert result.output.startswith("kept, because it could not be published (An error occurred (NotFound)")
    assert result.error == "punctual: kept in the queue: 1 (visible again 15 minutes after they were read)\n"
    assert (stack.received(), stack.left()) == ([], 1)


def test_a_truncated_event_stays(stack, punctual):
    """Its beginning cannot be published; somebody has to look at it."""
    stack.add_undelivered('{"payload": "xxx', truncated=True)
    result = punctual("resend")
    assert (result.code, stack.received(), stack.left()) == (1, [], 1)
    assert result.output.startswith("kept, because only the beginning of the event is here: order-4711")


def test_a_message_that_is_not_a_failure_report_stays(stack, punctual):
    for body in ("hello", "[]", "{}", '"text"'):
        stack.send_to_undelivered(body)
    stack.add_undelivered({"payload": "x"})
    result = punctual("resend")
    assert result.code == 1
    assert result.output.count("kept, because it is not a failure report") == 4
    assert (len(stack.received()), stack.left()) == (1, 4)


def test_an_empty_queue_is_a_success(stack, punctual):
    result = punctual("resend")
    assert (result.code, result.output, result.error) == (0, "No message is visible in the queue.\n", "")


def test_json_says_of_each_event_whether_it_was_kept(stack, punctual):
    stack.add_undelivered({"payload": "x"})
    stack.send_to_undelivered("hello")
    result = punctual("--json", "resend")
    published, kept = json.loads(result.output)
    assert published == {"id": "order-4711", "error": "not delivered: ...", "kept_because": None}
    assert (kept["error"], kept["kept_because"]) == ("unknown", "it is not a failure report")
    assert (result.code, result.error.count("\n")) == (1, 1)


def test_json_of_an_empty_queue_is_an_empty_list(stack, punctual):
    assert punctual("--json", "resend").output == "[]\n"
