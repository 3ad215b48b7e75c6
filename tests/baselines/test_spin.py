"""SPIN against the published implementation, and its promises on masks and graphs."""

import imputer_checks as checks
import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths

from baselines import pair_attention, pair_plan
from baselines.spin import SPIN

GOLDEN = pytest.mark.parametrize(
    "golden", [Golden(path) for path in golden_paths("spin")], ids=lambda g: g.path.stem
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def from_golden(golden, dtype=torch.float32):
    h = golden.hparams
    assert h["temporal_self_attention"]
    assert h["input_size"] == h["output_size"] == 1
    model = SPIN(
        n_nodes=h["N"],
        edge_index=golden.group("in")["edge_index"],
        d_hidden=h["hidden_size"],
        n_layers=h["n_layers"],
        eta=h["eta"],
        message_layers=h["message_layers"],
        reweight=h["reweight"],
        n_time_features=h["u_size"],
    ).to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    return model


def ring(n):
    """Each node linked to the next with a weight; the last node is isolated."""
    adjacency = torch.zeros(n, n)
    for i in range(n - 2):
        adjacency[i, i + 1] = 0.5
    return adjacency


def small(n_nodes=5, **kwargs):
    torch.manual_seed(0)
    kwargs = {"adjacency": ring(n_nodes)} | kwargs
    return SPIN(n_nodes=n_nodes, d_hidden=8, n_layers=3, eta=2, **kwargs)


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
    for chunk in (1, 1000, 2**40):
        monkeypatch.setattr(pair_plan, "CHUNK_CPU", chunk)
        model = from_golden(golden, torch.float64)
        results.append((model(*batch.seen), checks.gradients(model, batch)[1]))
    output, grads = results[0]
    for other_output, other in results[1:]:
        torch.testing.assert_close(other_output, output, rtol=1e-10, atol=1e-10)
        assert all(torch.allclose(other[n], g, 1e-8, 1e-10) for n, g in grads.items())


def test_hidden_values_change_nothing(batch):
    checks.assert_hidden_values_change_nothing(small(), batch)


def test_samples_are_independent(batch):
    checks.assert_samples_are_independent(small(), batch)


def test_empty_loss_is_zero(batch):
    checks.assert_empty_loss_is_zero(small(), batch)


def test_state_round_trip(batch):
    checks.assert_state_round_trip(small(), batch)


@pytest.mark.parametrize("reweight", ["softmax", "l1", "none"])
def test_node_without_readings(batch, reweight):
    batch.observed[:, :, 1] = False
    checks.assert_finite(small(reweight=reweight), batch)


def test_nothing_observed_at_all(batch):
    batch.observed[:] = False
    checks.assert_finite(small(), batch)


def test_graph_without_edges(batch):
    checks.assert_finite(small(adjacency=torch.zeros(5, 5)), batch)


def test_one_step_window():
    checks.assert_finite(small(), checks.random_batch(n_nodes=5, n_steps=1, n_features=4))


def test_without_edges_a_node_sees_itself_only(batch):
    model = small(adjacency=torch.zeros(5, 5)).eval()
    before = model(*batch.seen)
    batch.x[:, :, 0] += 1.0
    after = model(*batch.seen)
    assert torch.equal(before[:, :, 1:], after[:, :, 1:])
    assert not torch.equal(before[:, :, 0], after[:, :, 0])


def test_adjacency_is_symmetrised_without_loops(batch):
    adjacency = ring(5) + torch.eye(5)
    edges = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    model = small(adjacency=adjacency)
    assert {tuple(e) for e in model.edge_index.T.tolist()} == {tuple(e) for e in edges.T.tolist()}
    other = small(adjacency=None, edge_index=edges)
    torch.testing.assert_close(model(*batch.seen), other(*batch.seen))


@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_graph(both):
    graph = {"adjacency": ring(5), "edge_index": torch.tensor([[0], [1]])} if both else {}
    with pytest.raises(ValueError, match="exactly one of `adjacency` and `edge_index`"):
        SPIN(n_nodes=5, **graph)


def test_wrong_graphs_are_named():
    with pytest.raises(ValueError, match=r"5 x 5 .*\(4, 4\)"):
        SPIN(n_nodes=5, adjacency=ring(4))
    with pytest.raises(ValueError, match="names node 0 to 7; valid are 0 to 4"):
        SPIN(n_nodes=5, edge_index=torch.tensor([[0], [7]]))


def test_odd_width_is_named():
    with pytest.raises(ValueError, match="even width, got 7"):
        SPIN(n_nodes=5, adjacency=ring(5), d_hidden=7)
