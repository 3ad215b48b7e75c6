"""PSAN against a plain formulation of the same mathematics, with the same weights."""

import pytest
import torch
from plain_psan import PlainPSAN

from psan import PSAN, load_reference_weights
from psan.reference import reference_names

NODES, WINDOW, SILENT = 5, 6, 1
SIZES = {"n_prototypes": 3, "d_model": 8, "n_heads": 2, "n_layers": 2, "dropout": 0.0}

pytestmark = [
    pytest.mark.parametrize("n_time_features", [2, 4]),
    pytest.mark.parametrize(
        "dtype", [torch.float32, torch.float64], ids=lambda d: str(d).removeprefix("torch.")
    ),
]


def build(n_time_features: int, dtype: torch.dtype) -> tuple[PSAN, PlainPSAN]:
    """Package and oracle with equal weights, none of them at its first value."""
    torch.manual_seed(0)
    model, oracle = (
        network(NODES, WINDOW, n_time_features=n_time_features, **SIZES).to(dtype)
        for network in (PSAN, PlainPSAN)
    )
    with torch.no_grad():
        for p in oracle.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return load_reference_weights(model, oracle.state_dict()), oracle


def windows(n_time_features: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Readings with NaN in the gaps, mask, time; labels, and where there are some to learn from."""
    torch.manual_seed(1)
    target = torch.randn(3, WINDOW, NODES, 1, dtype=dtype)
    visible = torch.rand(target.shape) < 0.8
    visible[:, :, SILENT] = False
    observed = visible & (torch.rand(target.shape) < 0.6)
    clock = torch.randn(3, WINDOW, n_time_features, dtype=dtype)
    return target.masked_fill(~observed, torch.nan), observed, clock, target, visible & ~observed


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    value = 1e-5 if dtype == torch.float32 else 1e-9
    return {"rtol": value, "atol": value}


def test_outputs(n_time_features: int, dtype: torch.dtype) -> None:
    seen = windows(n_time_features, dtype)[:3]
    output, expected = (network.eval()(*seen) for network in build(n_time_features, dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, **tolerance(dtype))


def test_loss_and_gradients(n_time_features: int, dtype: torch.dtype) -> None:
    *seen, target, hidden = windows(n_time_features, dtype)
    model, oracle = (network.train() for network in build(n_time_features, dtype))
    loss, expected_loss = ((m(*seen) - target)[hidden].abs().mean() for m in (model, oracle))
    torch.testing.assert_close(loss, expected_loss, **tolerance(dtype))

    loss.backward()
    expected_loss.backward()
    expected = {name: p.grad for name, p in oracle.named_parameters()}
    parameters = dict(model.named_parameters())
    names = reference_names(model)
    assert names.keys() == parameters.keys()
    assert {source for sources in names.values() for source in sources} == expected.keys()
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else tolerance(dtype)
    for name, sources in names.items():
        gradient = torch.cat([expected[source].flatten() for source in sources])
        torch.testing.assert_close(
            parameters[name].grad.flatten(), gradient, **close, msg=lambda m, n=name: f"{n}: {m}"
        )
