"""Which images are computed together, and who is let into the queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.deployment.router.admission import Admission, QueueFull
from evodiff.deployment.worker.batching import Batcher, Job


def job(name: str, count: int = 1, *, steps: int = 2, guidance: float = 1.0, deadline: float = 10.0) -> Job:
    """Return a request that arrived at 0."""
    return Job(name, count, 0, steps, guidance, None, True, 0.0, deadline)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([2, 3]), st.sampled_from([1.0, 2.0])), max_size=12),
    st.integers(1, 8),
)
def test_every_image_is_computed_once_with_others_of_its_kind(
    requests: list[tuple[int, int, float]], most: int
) -> None:
    batcher = Batcher(most)
    jobs = [job(str(index), count, steps=steps, guidance=scale) for index, (count, steps, scale) in enumerate(requests)]
    for item in jobs:
        batcher.add(item)
    issued = []
    while batch := batcher.next_batch():
        assert len(batch) <= most
        assert len({item.key for item, _ in batch}) == 1
        assert batch[0][0] is min(
            (item for item in jobs if item.issued - _of(item, batch) < item.count), key=jobs.index
        )
        issued += [(item.id, index) for item, index in batch]
    assert sorted(issued) == sorted((item.id, index) for item in jobs for index in range(item.count))
    assert len(batcher) == 0


def _of(item: Job, batch: list[tuple[Job, int]]) -> int:
    return sum(other is item for other, _ in batch)


def test_requests_of_one_kind_share_a_batch_past_one_of_another() -> None:
    batcher = Batcher(4)
    for item in (job("a"), job("other", steps=9), job("b", 2)):
        batcher.add(item)
    assert [(item.id, index) for item, index in batcher.next_batch()] == [("a", 0), ("b", 0), ("b", 1)]
    assert [item.id for item, _ in batcher.next_batch()] == ["other"]


def test_what_is_late_or_taken_back_is_not_computed() -> None:
    batcher = Batcher(4)
    for item in (job("late", deadline=1), job("gone"), job("stays")):
        batcher.add(item)
    batcher.remove("gone")
    batcher.remove("never there")
    assert [item.id for item in batcher.expired(1.0)] == ["late"]
    assert [item.id for item, _ in batcher.next_batch()] == ["stays"]


def admission(most: int = 8, share: float = 0.5, speed: float = 1.0) -> Admission:
    """Return a queue that does ``speed`` of work a second."""
    return Admission(max_images=most, client_share=share, work_per_second=speed)


def test_a_full_queue_takes_nothing_and_says_when_to_come_again() -> None:
    queue = admission(share=1)
    queue.enter("a", 8, 20, 100)
    with pytest.raises(QueueFull, match="8 of 8 images wait") as caught:
        queue.enter("b", 1, 1, 100)
    assert caught.value.retry_after == 10
    queue.leave("a", 8, 20)
    queue.enter("b", 1, 1, 100)
    assert queue.images == 1


def test_one_client_has_at_most_its_share_and_others_still_get_in() -> None:
    queue = admission()
    queue.enter("flood", 4, 1, 100)
    with pytest.raises(QueueFull, match="at most 4 images"):
        queue.enter("flood", 1, 1, 100)
    queue.enter("other", 4, 1, 100)
    queue.leave("flood", 4, 1)
    queue.enter("flood", 1, 1, 100)


def test_what_could_not_be_answered_in_time_is_not_taken_in() -> None:
    queue = admission(speed=2)
    queue.enter("a", 1, 20, 10.5)
    with pytest.raises(QueueFull, match=r"11\.0 s of 5\.0 s") as caught:
        queue.enter("b", 1, 2, 5)
    assert caught.value.retry_after == 7
    with pytest.raises(QueueFull, match="too much to be sure"):
        queue.enter("b", 1, 2, 12)
    queue.enter("b", 1, 2, 14)


def test_an_idle_worker_takes_what_seems_too_much() -> None:
    admission().enter("a", 1, 1000, 1)  # else a slow start would keep everyone out for ever


def test_only_what_no_worker_of_its_kind_could_do_in_time_is_hopeless() -> None:
    queue = admission(speed=10)
    assert queue.hopeless(work=81, seconds=10)
    assert not queue.hopeless(work=79, seconds=10)
    for _ in range(50):
        queue.learn(work=10, seconds=10)
    assert not queue.hopeless(work=79, seconds=10)  # it was faster
    for _ in range(50):
        queue.learn(work=1000, seconds=10)
    assert not queue.hopeless(work=790, seconds=10)


def test_the_speed_is_learned() -> None:
    queue = admission(speed=1)
    for _ in range(50):
        queue.learn(work=100, seconds=10)
    assert queue.estimated_seconds(100) == pytest.approx(10, rel=0.01)


def test_what_requests_wait_beyond_their_work_is_learned_from_long_waits() -> None:
    queue = admission(most=100, share=1, speed=10)
    for _ in range(50):
        queue.learn_wait(expected=0.001, seconds=0.1)
    assert queue.estimated_seconds(100) == pytest.approx(10, rel=0.1)
    for _ in range(50):
        expected = queue.enter("a", 1, 20, 100)
        assert expected == 2
        queue.learn_wait(expected, seconds=3)
        queue.leave("a", 1, 20)
    assert queue.estimated_seconds(100) == pytest.approx(15, rel=0.01)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.booleans()), max_size=60))
def test_counts_are_those_of_who_is_inside(events: list[tuple[str, int, bool]]) -> None:
    queue, inside = admission(10, 0.6, speed=1e9), []
    for client, images, leaves in events:
        if leaves and inside:
            queue.leave(*inside.pop(0))
            continue
        try:
            queue.enter(client, images, images, 1)
            inside.append((client, images, float(images)))
        except QueueFull:
            held = sum(count for name, count, _ in inside if name == client)
            assert queue.images + images > 10 or held + images > 6
        assert queue.images == sum(count for _, count, _ in inside) <= 10
