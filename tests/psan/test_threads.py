"""Work shared among threads."""

import threading

import pytest
import torch

from psan import PSAN
from psan.threads import in_threads, shares


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_every_item_is_done_once(three_threads, count: int) -> None:
    done: list[int] = []
    parts = shares(count)
    all_at_once = threading.Barrier(len(parts), timeout=10)

    def work(k: int, first: int, last: int) -> None:
        all_at_once.wait()
        assert parts[k] == (first, last)
        done.extend(range(first, last))

    in_threads(parts, work)
    assert len(parts) == min(3, count)
    assert sorted(done) == list(range(count))


def test_an_error_in_any_thread_is_raised(three_threads) -> None:
    def work(k: int, first: int, last: int) -> None:
        if k == 2:
            raise ValueError("third")

    with pytest.raises(ValueError, match="third"):
        in_threads(shares(3), work)


def test_the_number_of_threads_changes_neither_output_nor_torch(three_threads) -> None:
    torch.manual_seed(0)
    model = PSAN(5, window=4, d_model=8, n_heads=2, n_layers=1).eval()
    inputs = torch.randn(3, 4, 5, 1), torch.rand(3, 4, 5, 1) < 0.7, torch.randn(3, 4, 2)
    several = model(*inputs)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    torch.testing.assert_close(model(*inputs), several, rtol=1e-6, atol=1e-6)
    assert torch.get_num_threads() == 1
