"""SPIN-H against the published implementation, and its promises on masks and graphs."""

import imputer_checks as checks
import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths

from baselines import pair_attention, pair_plan
from baselines.edge_sums import softmax_by_target
from baselines.spin_h import SPINH

GOLDEN = pytest.mark.parametrize(
    "golden", [Golden(path) for path in golden_paths("spinh")], ids=lambda g: g.path.stem
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
VARIANTS = pytest.mark.parametrize(
    "variant",
    [
        {"update_z_cross": z, "spatial_aggr": a, "reweight": r}
        for z, a, r in [
            (False, "softmax", "softmax"),
            (True, "softmax", "l1"),
            (True, "add", "none"),
        ]
    ],
    ids=lambda v: "-".join(map(str, v.values())),
)
PUBLISHED = [
    "h_size",
    "z_size",
    "z_heads",
    "n_layers",
    "eta",
    "message_layers",
    "reweight",
    "update_z_cross",
    "norm",
    "spatial_aggr",
]


def from_golden(golden, dtype=torch.float32):
    h = golden.hparams
    assert h["input_size"] == h["output_size"] == 1
    model = SPINH(
        n_nodes=h["N"],
        edge_index=golden.group("in")["edge_index"],
        n_time_features=h["u_size"],
        **{name: h[name] for name in PUBLISHED},
    ).to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    return model


def chain(n):
    """Each node linked to the next; the last node is isolated."""
    return torch.diag(torch.full((n - 1,), 0.5), 1) * (torch.arange(n) < n - 1)


def small(n_nodes=5, **kwargs):
    torch.manual_seed(0)
    kwargs = {"adjacency": chain(n_nodes)} | kwargs
    return SPINH(n_nodes=n_nodes, h_size=8, z_size=6, z_heads=2, n_layers=3, eta=2, **kwargs)


@pytest.fixture
def batch():
    return checks.random_batch(n_nodes=5, n_steps=6, n_features=4)


@GOLDEN
@DTYPES
def test_outputs_as_published(golden, dtype):
    model, batch = from_golden(golden, dtype), checks.golden_batch(golden, dtype)
    got = {
        "x_hat": model(*batch.seen),
        "imputations": torch.stack(model.predictions(*batch.seen)[:-1]),
        "loss": model.loss(*batch.all),
        "pe_used": model.u_enc.positional.pe[: batch.x.shape[1], 0],
    }
    checks.assert_as_stored(got, golden, dtype)


@GOLDEN
def test_gradients_as_published(golden):
    model = from_golden(golden)
    model.loss(*checks.golden_batch(golden, torch.float32).all).backward()
    assert_gradients(model, golden)
    assert checks.names_without_gradient(model) == set(golden.meta["params_without_grad"])


@GOLDEN
def test_chunks_change_nothing(golden, monkeypatch):
    monkeypatch.setattr(pair_attention, "COMPILED", False)
    batch = checks.golden_batch(golden, torch.float64)
    results = []
    for chunk in (1, 2**40):
        monkeypatch.setattr(pair_plan, "CHUNK_CPU", chunk)
        model = from_golden(golden, torch.float64)
        results.append((model(*batch.seen), checks.gradients(model, batch)[1]))
    (output, grads), (other_output, other) = results
    torch.testing.assert_close(other_output, output, rtol=1e-10, atol=1e-10)
    assert all(torch.allclose(other[n], g, 1e-8, 1e-10) for n, g in grads.items())


@VARIANTS
def test_hidden_values_change_nothing(batch, variant):
    checks.assert_hidden_values_change_nothing(small(**variant), batch)


@VARIANTS
def test_samples_are_independent(batch, variant):
    checks.assert_samples_are_independent(small(**variant), batch)


def test_empty_loss_is_zero(batch):
    checks.assert_empty_loss_is_zero(small(), batch)


def test_state_round_trip(batch):
    checks.assert_state_round_trip(small(), batch)


@VARIANTS
def test_node_without_readings(batch, variant):
    batch.observed[:, :, 1] = False
    checks.assert_finite(small(**variant), batch)


@VARIANTS
def test_nothing_observed_at_all(batch, variant):
    batch.observed[:] = False
    checks.assert_finite(small(**variant), batch)


@VARIANTS
def test_graph_without_edges(batch, variant):
    checks.assert_finite(small(adjacency=torch.zeros(5, 5), **variant), batch)


def test_exactly_one_graph():
    with pytest.raises(ValueError, match="exactly one of `adjacency` and `edge_index`"):
        SPINH(n_nodes=5)


def test_unknown_aggregation_is_named():
    with pytest.raises(ValueError, match=r"'mean'.*add.*softmax"):
        small(spatial_aggr="mean")


def test_softmax_by_target():
    score = torch.tensor([0.3, -1.0, 2.0, 50.0]).view(4, 1, 1)
    rows = torch.tensor([2, 0, 2, 0])
    got = softmax_by_target(score, rows, 3).flatten()
    torch.testing.assert_close(got[[0, 2]], torch.softmax(torch.tensor([0.3, 2.0]), 0))
    torch.testing.assert_close(got[[1, 3]], torch.tensor([0.0, 1.0]))
