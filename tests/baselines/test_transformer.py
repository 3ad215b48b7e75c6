"""The Transformer against the published implementation, and its promises on masks."""

import imputer_checks as checks
import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths

from baselines.transformer import Transformer

GOLDEN = pytest.mark.parametrize(
    "golden", [Golden(path) for path in golden_paths("transformer")], ids=lambda g: g.path.stem
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def from_golden(golden, dtype=torch.float32):
    h = golden.hparams
    assert (h["axis"], h["activation"], h["condition_on_u"]) == ("both", "elu", True)
    assert h["input_size"] == h["output_size"] == 1
    model = Transformer(
        d_hidden=h["hidden_size"],
        d_ff=h["ff_size"],
        n_heads=h["n_heads"],
        n_layers=h["n_layers"],
        dropout=h["dropout"],
        n_time_features=h["u_size"],
    ).to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    return model


def small(**kwargs):
    torch.manual_seed(0)
    return Transformer(**{"d_hidden": 8, "d_ff": 12, "n_heads": 2, "n_layers": 2} | kwargs)


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
        "pe_used": model.pe.pe[: batch.x.shape[1], 0],
    }
    checks.assert_as_stored(got, golden, dtype)


@GOLDEN
def test_gradients_as_published(golden):
    model = from_golden(golden)
    model.loss(*checks.golden_batch(golden, torch.float32).all).backward()
    assert_gradients(model, golden)
    assert checks.names_without_gradient(model) == set(golden.meta["params_without_grad"])


def test_hidden_values_change_nothing(batch):
    checks.assert_hidden_values_change_nothing(small(), batch)


def test_samples_are_independent(batch):
    checks.assert_samples_are_independent(small(), batch)


def test_empty_loss_is_zero(batch):
    checks.assert_empty_loss_is_zero(small(), batch)


def test_state_round_trip(batch):
    checks.assert_state_round_trip(small(), batch)


def test_node_without_readings(batch):
    batch.observed[:, :, 1] = False
    checks.assert_finite(small(), batch)


def test_nothing_observed_at_all(batch):
    batch.observed[:] = False
    checks.assert_finite(small(), batch)


def test_nodes_are_interchangeable(batch):
    model, order = small().eval(), torch.tensor([3, 1, 4, 0, 2])
    shuffled = model(batch.x[:, :, order], batch.observed[:, :, order], batch.time_features)
    torch.testing.assert_close(shuffled, model(*batch.seen)[:, :, order])


def test_dropout_is_off_outside_training(batch):
    model = small(dropout=0.5)
    assert not torch.equal(model(*batch.seen), model(*batch.seen))
    model.eval()
    assert torch.equal(model(*batch.seen), model(*batch.seen))


def test_width_that_heads_do_not_divide_is_named():
    with pytest.raises(ValueError, match="d_hidden 10 is not a multiple of n_heads 4"):
        Transformer(d_hidden=10, n_heads=4)
