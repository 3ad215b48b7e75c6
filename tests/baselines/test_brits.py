"""BRITS against the golden files of both published forms, and its edge cases."""

import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths
from torch import Tensor

from baselines.brits import BRITS, time_gaps

FORMS = [(path, True) for path in golden_paths("brits")]
FORMS += [(path, False) for path in golden_paths("brits_spinflavour")]
IDS = [path.stem for path, _ in FORMS]


def load(path, restore_observed: bool, dtype: torch.dtype) -> tuple[Golden, BRITS, dict]:
    golden = Golden(path)
    sizes = golden.hparams
    model = BRITS(
        n_nodes=sizes["d_in"] if restore_observed else sizes["N"],
        d_hidden=sizes["d_hidden"] if restore_observed else sizes["hidden_size"],
        restore_observed=restore_observed,
    ).to(dtype)
    module = model if restore_observed else model.birits
    module.load_state_dict(golden.group("param", dtype), strict=True)
    inputs = {
        key: value[..., None] if value.ndim == 3 else value
        for key, value in golden.group("in", dtype).items()
    }
    call = {
        "x": inputs["x"],
        "observed": inputs["mask"] > 0,
        "time_features": inputs["x"].new_zeros(*inputs["x"].shape[:2], 0),
        "target": inputs["target"],
        "visible": inputs["mask_target"] > 0,
    }
    return golden, model, call


def outputs(model: BRITS, call: dict) -> dict[str, Tensor]:
    """Everything a golden file may hold, [b t n 1]."""
    found = model.estimates(call["x"], call["observed"])
    combined, network, history = ([*pair] for pair in found[2::-1])
    if model.restore_observed:
        predictions = [*combined, *network, *history]
    else:
        predictions = [*combined, network[0], history[0], network[1], history[1]]
    gaps = time_gaps(call["observed"].squeeze(-1).transpose(0, 1)[None].expand(2, -1, -1, -1))
    return {
        "imputation": model(call["x"], call["observed"], call["time_features"]),
        "imputations_fwd_bwd": found.imputation[..., None],
        "predictions": torch.stack(predictions)[..., None],
        "delta_fwd": gaps[0].transpose(0, 1)[..., None].to(call["x"].dtype),
        "loss": model.loss(**call),
    }


@pytest.mark.parametrize(
    ("dtype", "group", "tolerance"), [(torch.float32, "out", 1e-5), (torch.float64, "out64", 1e-9)]
)
@pytest.mark.parametrize(("path", "restore_observed"), FORMS, ids=IDS)
def test_golden_outputs(path, restore_observed, dtype, group, tolerance):
    golden, model, call = load(path, restore_observed, dtype)
    got = outputs(model, call)
    for name, expected in golden.group(group).items():
        torch.testing.assert_close(
            got[name].reshape(expected.shape), expected, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(("path", "restore_observed"), FORMS, ids=IDS)
def test_golden_gradients(path, restore_observed):
    golden, model, call = load(path, restore_observed, torch.float32)
    model.loss(**call).backward()
    assert_gradients(model if restore_observed else model.birits, golden)
    assert golden.meta["params_without_grad"] == []
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize(("path", "restore_observed"), FORMS, ids=IDS)
def test_hidden_values_change_nothing(path, restore_observed, junk):
    _, model, call = load(path, restore_observed, torch.float32)
    clean = outputs(model, call)
    clean["loss"].backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    call["x"] = call["x"].where(call["observed"], junk)
    call["target"] = call["target"].where(call["visible"], junk)
    soiled = outputs(model, call)
    soiled["loss"].backward()
    for name, value in clean.items():
        assert torch.equal(value, soiled[name]), name
    assert all(map(torch.equal, gradients, (p.grad for p in model.parameters())))


def example(b: int = 1, t: int = 7, n: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, t, n, 1, generator=generator)
    visible = torch.rand(b, t, n, 1, generator=generator) > 0.3
    visible[:, :, 0] = False  # nothing is known of the first sensor
    observed = visible & (torch.rand(b, t, n, 1, generator=generator) > 0.2)
    x, target = x.where(observed, torch.nan), x.where(visible, torch.nan)
    time_features = torch.zeros(b, t, 0)
    return {
        "x": x, "observed": observed, "time_features": time_features,
        "target": target, "visible": visible,
    }  # fmt: skip


@pytest.mark.parametrize("restore_observed", [True, False])
def test_batch_of_one_equals_its_part_of_a_larger_batch(restore_observed):
    model = BRITS(4, d_hidden=5, restore_observed=restore_observed)
    call = example(b=3)
    inputs = [call[key] for key in ("x", "observed", "time_features")]
    whole = model(*inputs)
    assert whole.isfinite().all()
    torch.testing.assert_close(model(*(a[1:2] for a in inputs)), whole[1:2])


def test_observed_readings_are_restored():
    call = example()
    found = BRITS(4, d_hidden=5).estimates(call["x"], call["observed"]).imputation
    observed = call["observed"][None, ..., 0]
    kept = found.where(observed, 0.0)
    assert torch.equal(kept, call["x"][None, ..., 0].where(observed, 0.0).expand_as(kept))


def test_without_labels_only_the_disagreement_is_left():
    call = example()
    model = BRITS(4, d_hidden=5, consistency_weight=0.0)
    call["visible"] = torch.zeros_like(call["visible"])
    loss = model.loss(**call)
    assert loss.item() == 0.0
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_state_dict_round_trip():
    call = example()
    first, second = BRITS(4, d_hidden=5), BRITS(4, d_hidden=5)
    assert not torch.equal(first.loss(**call), second.loss(**call))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first.loss(**call), second.loss(**call))


def test_time_gaps_against_a_loop():
    observed = torch.rand(2, 9, 3, 5, generator=torch.Generator().manual_seed(1)) > 0.6
    expected = torch.zeros(observed.shape, dtype=torch.long)
    for t in range(1, 9):
        expected[:, t] = torch.where(observed[:, t - 1], 1, expected[:, t - 1] + 1)
    assert torch.equal(time_gaps(observed), expected)


def test_mixed_precision_runs_and_stays_near():
    model, call = BRITS(4, d_hidden=5), example(b=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(**call)
    torch.testing.assert_close(loss, model.loss(**call), rtol=0.02, atol=0.0)
