"""PSAN's contract: shapes, sizes, errors, dropout, what it may look at."""

import pytest
import torch

from psan import PSAN

WINDOW, NODES = 24, 5


def windows(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(batch, WINDOW, NODES, 1)
    return x, torch.rand(x.shape) < 0.7, torch.randn(batch, WINDOW, 2)


@pytest.mark.parametrize(
    ("n_nodes", "n_prototypes", "published"),
    [(207, 10, 495_767), (325, 15, 679_820), (307, 15, 651_902), (170, 8, 438_225)],
    ids=["METR-LA", "PEMS-BAY", "PeMS04", "PeMS08"],
)
def test_parameter_counts_are_the_published_ones(
    n_nodes: int, n_prototypes: int, published: int
) -> None:
    model = PSAN(n_nodes, n_prototypes=n_prototypes)
    assert sum(p.numel() for p in model.parameters()) == published


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_what_is_not_observed_changes_nothing(poison: float) -> None:
    model = PSAN(NODES).eval()
    x, observed, clock = windows()
    clean = model(x, observed, clock)
    spoilt = model(torch.where(observed, x, poison), observed, clock)
    torch.testing.assert_close(spoilt, clean, rtol=0, atol=0)
    spoilt.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_dropout_is_active_in_training_only() -> None:
    model = PSAN(NODES, dropout=0.5)
    given = windows()
    assert not torch.equal(model(*given), model(*given))
    model.eval()
    assert torch.equal(model(*given), model(*given))


def test_samples_do_not_influence_each_other() -> None:
    model = PSAN(NODES).eval()
    x, observed, clock = windows(3)
    together = model(x, observed, clock)
    alone = torch.cat(
        [model(x[i : i + 1], observed[i : i + 1], clock[i : i + 1]) for i in range(3)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_a_change_reaches_the_past_and_the_future() -> None:
    model = PSAN(NODES, n_layers=1).eval()
    x, observed, clock = windows(1)
    observed[0, 12, 2] = True
    moved = x.clone()
    moved[0, 12, 2] += 3
    change = (model(moved, observed, clock) - model(x, observed, clock)).abs()[0, :, :, 0]
    assert (change[:, 2] > 0).all()


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"n_nodes": 0}, "n_nodes=0"),
        ({"window": 0}, "window=0"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"d_model": 62}, "d_model=62.*n_heads=4"),
        ({"d_model": 9, "n_heads": 3}, "d_model=9"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
    ],
)
def test_bad_sizes_are_named(sizes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PSAN(**{"n_nodes": NODES, **sizes})


def test_windows_of_another_size_are_refused() -> None:
    x, observed, clock = windows()
    with pytest.raises(ValueError, match=r"24 steps x 5 sensors.*24 steps x 6 sensors"):
        PSAN(6)(x, observed, clock)
    with pytest.raises(ValueError, match=r"12 steps x 5 sensors"):
        PSAN(NODES)(x[:, :12], observed[:, :12], clock[:, :12])
