"""ImputeFormer against the published implementation, and its promises on masks."""

import imputer_checks as checks
import numpy as np
import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths

from baselines.imputeformer import ImputeFormer, fourier_term
from baselines.losses import masked_mae

GOLDEN = pytest.mark.parametrize(
    "golden", [Golden(path) for path in golden_paths("imputeformer")], ids=lambda g: g.path.stem
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def from_golden(golden, dtype=torch.float32):
    h = golden.hparams
    assert h["output_dim"] == 1
    model = ImputeFormer(
        n_nodes=h["N"],
        window=h["T"],
        n_time_features=h["input_dim"] - 1,
        d_input=h["input_embedding_dim"],
        d_embedding=h["learnable_embedding_dim"],
        d_ff=h["feed_forward_dim"],
        d_projector=h["dim_proj"],
        n_heads=h["num_temporal_heads"],
        n_layers=h["num_layers"],
        dropout=h["dropout"],
    ).to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    return model


def published_loss(model, batch):
    """With the mask of the Fourier term as in the published code: it reads hidden targets."""
    y = model(*batch.seen)
    error = masked_mae(y, batch.target, batch.visible & ~batch.observed)
    fourier = fourier_term(torch.where(batch.visible, y, batch.target))
    return {
        "y_hat": y,
        "loss_rec": error,
        "loss_fourier": fourier,
        "loss": error + model.fourier_weight * fourier,
    }


def small(**kwargs):
    torch.manual_seed(0)
    sizes = {"d_input": 4, "d_embedding": 8, "d_ff": 10, "d_projector": 3, "n_layers": 2}
    return ImputeFormer(**{"n_nodes": 5, "window": 6, "dropout": 0.0} | sizes | kwargs)


@pytest.fixture
def batch():
    return checks.random_batch(n_nodes=5, n_steps=6, n_features=2)


@GOLDEN
@DTYPES
def test_outputs_as_published(golden, dtype):
    model, batch = from_golden(golden, dtype), checks.golden_batch(golden, dtype)
    checks.assert_as_stored(published_loss(model, batch), golden, dtype)


@GOLDEN
def test_gradients_as_published(golden):
    model = from_golden(golden)
    published_loss(model, checks.golden_batch(golden, torch.float32))["loss"].backward()
    assert_gradients(model, golden)
    assert checks.names_without_gradient(model) == set(golden.meta["params_without_grad"])


def test_fourier_term_is_the_written_sum(batch):
    spectrum = np.abs(np.fft.fftn(batch.target.double().numpy()))
    expected = (spectrum.sum((1, 2, 3)) / spectrum.size).mean()
    assert float(fourier_term(batch.target.double())) == pytest.approx(expected, rel=1e-12)


def test_loss_regularises_the_completed_series(batch):
    model = small()
    y = model(*batch.seen)
    completed = torch.where(batch.visible, batch.target, y)
    expected = masked_mae(y, batch.target, batch.visible & ~batch.observed)
    expected = expected + 0.01 * fourier_term(completed)
    torch.testing.assert_close(model.loss(*batch.all), expected)


def test_hidden_values_change_nothing(batch):
    checks.assert_hidden_values_change_nothing(small(), batch)


def test_samples_are_independent(batch):
    checks.assert_samples_are_independent(small(), batch)


def test_empty_loss_is_zero(batch):
    checks.assert_empty_loss_is_zero(small(fourier_weight=0.0), batch)


def test_loss_without_labels_is_the_fourier_term(batch):
    unlabelled = checks.Batch(*batch.seen, batch.target, batch.observed)
    checks.assert_finite(small(), unlabelled)


def test_state_round_trip(batch):
    checks.assert_state_round_trip(small(), batch)


def test_node_without_readings(batch):
    batch.observed[:, :, 1] = False
    checks.assert_finite(small(), batch)


def test_nothing_visible_at_all(batch):
    batch.observed[:] = batch.visible[:] = False
    checks.assert_finite(small(), batch)


def test_dropout_is_off_outside_training(batch):
    model = small(dropout=0.5)
    assert not torch.equal(model(*batch.seen), model(*batch.seen))
    model.eval()
    assert torch.equal(model(*batch.seen), model(*batch.seen))


def test_other_window_is_named(batch):
    with pytest.raises(ValueError, match=r"built for \(7, 5\) \(window, n_nodes\)"):
        small(window=7)(*batch.seen)


def test_width_that_heads_do_not_divide_is_named():
    with pytest.raises(ValueError, match="width 13 is not a multiple of n_heads 4"):
        small(d_input=5)
