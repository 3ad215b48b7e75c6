"""MPGRU and BiMPGRU against their golden files, and their edge cases."""

import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths
from torch import Tensor

from baselines.bimpgru import BiMPGRU
from baselines.mpgru import MPGRU

PATHS = [*golden_paths("mpgru"), *golden_paths("bimpgru")]
IDS = [path.stem for path in PATHS]
SHARED = ("d_hidden", "d_ff", "n_layers", "kernel_size", "layer_norm", "dropout")
BOTH = pytest.mark.parametrize("method", [MPGRU, BiMPGRU])


def load(path, dtype: torch.dtype) -> tuple[Golden, MPGRU | BiMPGRU, dict[str, Tensor]]:
    golden = Golden(path)
    sizes = golden.hparams
    assert sizes["d_u"] == 0
    settings = {name: sizes[name] for name in SHARED}
    adjacency = torch.zeros(sizes["N"], sizes["N"])
    if path.stem.startswith("bi"):
        model = BiMPGRU(adjacency, d_emb=sizes["embedding_size"], **settings)
    else:
        model = MPGRU(adjacency, **settings)
    model = model.to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    inputs = golden.group("in", dtype)
    call = {
        "x": inputs["x"],
        "observed": inputs["mask"] > 0,
        "time_features": inputs["x"].new_zeros(*inputs["x"].shape[:2], 0),
        "target": inputs["target"],
        "visible": inputs["mask_target"] > 0,
    }
    return golden, model, call


def outputs(model: MPGRU | BiMPGRU, call: dict[str, Tensor]) -> dict[str, Tensor]:
    prediction = model(call["x"], call["observed"], call["time_features"])
    return {
        "imputation_train": prediction,
        "imputation_eval": call["x"].where(call["observed"], prediction),
        "loss": model.loss(**call),
    }


@pytest.mark.parametrize(
    ("dtype", "group", "tolerance"), [(torch.float32, "out", 1e-5), (torch.float64, "out64", 1e-9)]
)
@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_golden_outputs(path, dtype, group, tolerance):
    golden, model, call = load(path, dtype)
    got, expected = outputs(model, call), golden.group(group)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_golden_gradients(path):
    golden, model, call = load(path, torch.float32)
    model.loss(**call).backward()
    assert_gradients(model, golden)
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == golden.meta["params_without_grad"]


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_hidden_values_change_nothing(path, junk):
    _, model, call = load(path, torch.float32)
    clean = model.loss(**call)
    clean.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    call["x"] = call["x"].where(call["observed"], junk)
    call["target"] = call["target"].where(call["visible"], junk)
    soiled = model.loss(**call)
    soiled.backward()
    assert torch.equal(clean, soiled)
    assert all(map(torch.equal, gradients, (p.grad for p in model.parameters())))


def example(b: int = 2, t: int = 6, n: int = 5, f: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, t, n, 1, generator=generator)
    visible = torch.rand(b, t, n, 1, generator=generator) > 0.3
    visible[:, :, 0] = False  # nothing is known of the first sensor
    observed = visible & (torch.rand(b, t, n, 1, generator=generator) > 0.2)
    return {
        "x": x.where(observed, torch.nan),
        "observed": observed,
        "time_features": torch.randn(b, t, f, generator=generator),
        "target": x.where(visible, torch.nan),
        "visible": visible,
    }


def build(method, **sizes) -> MPGRU | BiMPGRU:
    """A small model on a graph whose last node has no neighbour."""
    adjacency = torch.rand(5, 5, generator=torch.Generator().manual_seed(1)).fill_diagonal_(0.0)
    adjacency[-1] = adjacency[:, -1] = 0.0
    return method(adjacency, d_hidden=6, d_ff=7, **sizes)


@pytest.mark.parametrize(
    ("method", "sizes"),
    [
        (MPGRU, {}),
        (BiMPGRU, {"d_emb": 3}),
        (BiMPGRU, {}),
        (MPGRU, {"n_time_features": 2, "n_layers": 2, "layer_norm": True, "dropout": 0.5}),
        (BiMPGRU, {"n_time_features": 2, "n_layers": 2, "layer_norm": True, "dropout": 0.5}),
    ],
)
def test_batch_of_one_sensor_unknown_and_node_alone(method, sizes):
    model, call = build(method, **sizes).eval(), example(f=sizes.get("n_time_features", 0))
    inputs = [call[name] for name in ("x", "observed", "time_features")]
    whole = model(*inputs)
    assert whole.isfinite().all()
    torch.testing.assert_close(model(*(a[1:] for a in inputs)), whole[1:])
    model.train().loss(**call).backward()
    gradients = [p.grad for name, p in model.named_parameters() if "pred_readout" not in name]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_prediction_depends_on_earlier_steps_only():
    model, call = build(MPGRU, n_layers=2), example()
    x, observed = call["x"].nan_to_num(), torch.ones_like(call["observed"])
    changed = x.clone()
    changed[:, 3:] += 1.0
    before, after = (model(a, observed, call["time_features"]) for a in (x, changed))
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).all(dim=1).any()


def test_a_linear_readout():
    model, call = MPGRU(torch.rand(5, 5), d_hidden=6, d_ff=0), example()
    assert model.gcgru.pred_readout.weight.shape == (1, 6, 1)
    assert model.loss(**call).isfinite()


@BOTH
def test_without_labels_the_loss_is_zero(method):
    model, call = build(method), example()
    loss = model.loss(**call | {"visible": torch.zeros_like(call["visible"])})
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad.isfinite().all() for p in model.parameters())


@BOTH
def test_state_dict_round_trip(method):
    call = example()
    first, second = build(method), build(method)
    assert not torch.equal(first.loss(**call), second.loss(**call))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first.loss(**call), second.loss(**call))


@BOTH
def test_mixed_precision_runs_and_stays_near(method):
    model, call = build(method), example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(**call)
    torch.testing.assert_close(loss, model.loss(**call), rtol=0.05, atol=0.0)
