import threading

from client.agent.progress import ProgressEvent, ProgressSource


def event(done: int) -> ProgressEvent:
    return ProgressEvent(1, 1, 1, "training", done, 9)


def test_a_late_subscriber_reads_the_latest_event_only():
    source = ProgressSource()
    source.publish(event(1))
    source.publish(event(2))
    assert next(source.subscribe()) == event(2)


def test_every_subscriber_reads_every_event_it_keeps_up_with():
    source = ProgressSource()
    one, other = source.subscribe(), source.subscribe()
    for done in (1, 2):
        source.publish(event(done))
        assert next(one) == next(other) == event(done)


def test_close_ends_a_subscription_that_waits():
    source = ProgressSource()
    subscription = source.subscribe()
    threading.Timer(0.05, subscription.close).start()
    assert list(subscription) == []


def test_closing_the_source_delivers_the_last_event_first():
    source = ProgressSource()
    subscription = source.subscribe()
    source.publish(event(1))
    source.close()
    assert list(subscription) == [event(1)]
    assert list(source.subscribe()) == [event(1)]


def test_a_waiting_reader_is_woken_by_an_event():
    source = ProgressSource()
    subscription = source.subscribe()
    threading.Timer(0.05, source.publish, [event(3)]).start()
    assert next(subscription) == event(3)
