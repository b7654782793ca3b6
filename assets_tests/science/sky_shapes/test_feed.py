"""The feed of observed fields: every target once, in an order that the seed decides, resumable at any batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from deblend_assets.errors import TrainingError
from deblend_assets.science.sky_shapes.feed import SkyFeed, field_seed, fixed_feed
from deblend_assets.science.training.feeding import Batch, Portion, Share

EXPECTED = [7, 5, 9, 4, 6, 8, 5]
SEED = np.random.SeedSequence(3, spawn_key=(2,))


class Fields:
    """Fields of about `EXPECTED` targets; rows hold the field's number, the target's, and a random number.

    Attributes:
        observed: numbers of the fields that were observed, in order.
    """

    def __init__(self, scatter: int = 2) -> None:
        self.scatter, self.observed = scatter, list[int]()

    def __call__(self, numbers: Sequence[int], seed: np.random.SeedSequence) -> Iterator[Batch]:
        for number in numbers:
            self.observed.append(number)
            rng = np.random.default_rng(field_seed(seed, number))
            rows = max(EXPECTED[number] + int(rng.integers(-self.scatter, self.scatter + 1)), 0)
            values = rng.normal(size=rows)
            yield (
                torch.full((rows, 2, 3, 3), number, dtype=torch.float16),
                torch.from_numpy(values),
                torch.arange(rows) % 2 == 0,
            )


def feed(fields: Fields, group: int = 3, batch_size: int = 4) -> SkyFeed:
    return SkyFeed(fields, EXPECTED, group, batch_size)


def same(first: Sequence[Portion], second: Sequence[Portion]) -> bool:
    return len(first) == len(second) and all(
        a.rows == b.rows
        and (a.samples, a.own) == (b.samples, b.own)
        and all(torch.equal(x, y) for x, y in zip(a.tensors, b.tensors, strict=True))
        for a, b in zip(first, second, strict=True)
    )


def test_an_epoch_has_every_target_of_every_field_once_in_whole_rows() -> None:
    portions = list(feed(Fields()).epoch(SEED))
    found = {
        (int(image[0, 0, 0]), float(value))
        for portion in portions
        for image, value in zip(portion.tensors[0], portion.tensors[1], strict=True)
    }
    noise: list[np.random.SeedSequence] = []

    class Spying(Fields):
        def __call__(self, numbers: Sequence[int], seed: np.random.SeedSequence) -> Iterator[Batch]:
            noise.append(seed)
            return super().__call__(numbers, seed)

    list(feed(Spying()).epoch(SEED))
    wanted = {(number, float(value)) for number, batch in enumerate(Fields()(range(7), noise[0])) for value in batch[1]}
    assert found == wanted
    assert sum(portion.samples for portion in portions) == len(wanted)
    assert all(portion.own == portion.samples == len(portion.tensors[0]) for portion in portions)
    assert portions[0].tensors[0].dtype == torch.float16
    assert portions[0].tensors[2].dtype == torch.bool


def test_the_seed_decides_and_a_feed_asked_twice_answers_the_same() -> None:
    one = feed(Fields())
    first, again = list(one.epoch(SEED)), list(one.epoch(SEED))
    other = list(one.epoch(np.random.SeedSequence(3, spawn_key=(3,))))
    assert same(first, again)
    assert same(first, list(feed(Fields()).epoch(np.random.SeedSequence(3, spawn_key=(2,)))))
    assert not same(first, other)
    # Noise is new in every epoch, and batches mix the fields of a group.
    values = {float(value) for portion in first for value in portion.tensors[1]}
    assert not values & {float(value) for portion in other for value in portion.tensors[1]}
    assert any(len(torch.unique(portion.tensors[0])) > 1 for portion in first)


@pytest.mark.parametrize("group", [1, 3, 7, 20])
def test_resumed_after_any_batch_an_epoch_goes_on_and_groups_before_are_not_observed(group: int) -> None:
    whole = list(feed(Fields(), group).epoch(SEED))
    for skip in range(len(whole) + 1):
        fields = Fields()
        assert same(list(feed(fields, group).epoch(SEED, skip=skip)), whole[skip:])
        assert len(fields.observed) == len(set(fields.observed))
    assert fields.observed == []  # nothing is left


def test_the_number_of_batches_does_not_depend_on_what_is_observed_and_is_bounded() -> None:
    for group in (1, 2, 3, 7):
        for key in range(5):
            seed = np.random.SeedSequence(key)
            counts = {len(list(feed(Fields(scatter), group).epoch(seed))) for scatter in (0, 1, 3)}
            assert len(counts) == 1
            one = feed(Fields(), group)
            assert counts.pop() <= one.steps(one.samples)
    assert feed(Fields()).samples == sum(EXPECTED)
    exact = list(feed(Fields(scatter=0), 7).epoch(SEED))
    assert {portion.samples for portion in exact} == {4}  # 44 targets as expected: 11 batches


def test_processes_share_each_batch() -> None:
    whole = list(feed(Fields()).epoch(SEED))
    parts = [list(feed(Fields()).epoch(SEED, Share(rank, 2))) for rank in range(2)]
    for portion, *of_both in zip(whole, *parts, strict=True):
        for column, pieces in zip(portion.tensors, zip(*(p.tensors for p in of_both), strict=True), strict=True):
            assert torch.equal(column, torch.cat([x[: p.own] for x, p in zip(pieces, of_both, strict=True)]))
        assert {p.samples for p in of_both} == {portion.samples}


def test_fewer_targets_than_batches_still_fill_each_batch_and_none_is_an_error() -> None:
    def few(numbers: Sequence[int], seed: np.random.SeedSequence) -> Iterator[Batch]:
        for number in numbers:
            yield (torch.full((1 if number < 3 else 0,), number),)

    batches = list(SkyFeed(few, [10] * 6, 6, 4).epoch(SEED))
    assert len(batches) == 15
    assert all(portion.samples == 1 for portion in batches)
    with pytest.raises(TrainingError, match="no target"):
        list(SkyFeed(few, [10] * 6, 1, 4).epoch(SEED))


def test_a_feed_that_is_left_early_ends_its_observations() -> None:
    fields, before = Fields(), set(threading.enumerate())  # other tests may have left some
    portions = feed(fields, group=2).epoch(SEED)
    next(portions)
    assert set(threading.enumerate()) - before, "observed beside"
    portions.close()
    assert len(fields.observed) < len(EXPECTED)
    assert not set(threading.enumerate()) - before


def test_an_error_of_an_observation_reaches_the_training() -> None:
    def broken(numbers: Sequence[int], seed: np.random.SeedSequence) -> Iterator[Batch]:
        yield (torch.zeros(3),)
        raise TrainingError("broken", where="here", remedy="mend it")

    with pytest.raises(TrainingError, match="broken"):
        list(SkyFeed(broken, [3, 3], 2, 4).epoch(SEED))


def test_the_fixed_feed_is_one_observation_in_order() -> None:
    validation = fixed_feed(Fields(), [4, 1], SEED, 4)
    first, again = list(validation.in_order()), list(validation.in_order())
    assert same(first, again)
    numbers = torch.cat([portion.tensors[0][:, 0, 0, 0] for portion in first])
    assert numbers[0] == 4
    assert numbers[-1] == 1
    assert (numbers.diff() <= 0).all()
    assert [portion.samples for portion in first[:-1]] == [4] * (len(first) - 1)
    assert "in memory" in feed(Fields()).words


def test_a_fields_seed_is_its_own() -> None:
    seeds = {tuple(field_seed(SEED, number)) for number in range(50)}
    assert len(seeds) == 50
    assert tuple(field_seed(np.random.SeedSequence(4), 0)) not in seeds
