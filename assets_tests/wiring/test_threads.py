"""Threads of the processes that run tests."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_test_that_takes_more_threads_leaves_the_next_one_its_own(turn: str) -> None:
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(torch.get_num_threads() + 1)
