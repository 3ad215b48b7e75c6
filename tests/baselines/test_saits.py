"""SAITS against its golden files, and its edge cases."""

import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths
from torch import Tensor

from baselines.saits import SAITS

PATHS = golden_paths("saits")
IDS = [path.stem for path in PATHS]


def load(path, dtype: torch.dtype) -> tuple[Golden, SAITS, dict[str, Tensor]]:
    golden = Golden(path)
    sizes = golden.hparams
    assert sizes["input_size"] == 1
    same_name = ("d_model", "d_inner", "d_k", "d_v", "n_groups", "n_group_inner_layers")
    same_name += ("dropout", "input_with_mask", "trainable_mask_token")
    model = SAITS(
        sizes["N"],
        sizes["T"],
        n_heads=sizes["n_head"],
        parameter_sharing=sizes["param_sharing_strategy"],
        diagonal_mask=sizes["diagonal_attention_mask"],
        **{name: sizes[name] for name in same_name},
    ).to(dtype)
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


def outputs(model: SAITS, call: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "x_hat": model(call["x"], call["observed"], call["time_features"]),
        "x_tilde": torch.stack(model.estimates(call["x"], call["observed"]))[..., None],
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


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_positional_table_is_the_published_one(path):
    expected = Golden(path).group("param")["position_enc.pos_table"]
    built = SAITS(3, len(expected), d_model=expected.shape[1], n_heads=2)
    torch.testing.assert_close(built.position_enc.pos_table, expected, rtol=0, atol=1e-6)


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


def example(b: int = 2, t: int = 6, n: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, t, n, 1, generator=generator)
    visible = torch.rand(b, t, n, 1, generator=generator) > 0.3
    visible[:, :, 0] = False  # nothing is known of the first sensor
    observed = visible & (torch.rand(b, t, n, 1, generator=generator) > 0.2)
    return {
        "x": x.where(observed, torch.nan),
        "observed": observed,
        "time_features": torch.zeros(b, t, 0),
        "target": x.where(visible, torch.nan),
        "visible": visible,
    }


def build(**sizes) -> SAITS:
    return SAITS(5, sizes.pop("window", 6), d_model=8, d_inner=7, **{"n_heads": 2, **sizes})


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"n_heads": 1, "diagonal_mask": False, "dropout": 0.5},
        {"n_groups": 2, "d_k": 3, "d_v": 5, "trainable_mask_token": True},
    ],
    ids=str,
)
def test_batch_of_one_equals_its_part_of_a_larger_batch(sizes):
    model, call = build(**sizes).eval(), example(b=3)
    inputs = [call[name] for name in ("x", "observed", "time_features")]
    whole = model(*inputs)
    assert whole.isfinite().all()
    torch.testing.assert_close(model(*(a[1:2] for a in inputs)), whole[1:2])


def test_a_window_of_one_step():
    call = example(t=1)
    loss = build(window=1).loss(**call)
    loss.backward()
    assert loss.isfinite()


def test_no_step_attends_to_itself():
    layer = build().layer_stack_for_first_block[0]
    _, weights = layer(torch.randn(2, 6, 8), torch.eye(6, dtype=torch.bool))
    assert (weights.diagonal(dim1=1, dim2=2) == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6))


def test_without_labels_the_loss_is_zero():
    model, call = build(), example()
    nothing = torch.zeros_like(call["visible"])
    loss = model.loss(**call | {"visible": nothing, "observed": nothing})
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_state_dict_round_trip():
    call = example()
    first, second = build(), build()
    assert not torch.equal(first.loss(**call), second.loss(**call))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first.loss(**call), second.loss(**call))


def test_mixed_precision_runs_and_stays_near():
    model, call = build(), example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(**call)
    torch.testing.assert_close(loss, model.loss(**call), rtol=0.05, atol=0.0)


def test_refusals_name_the_value():
    with pytest.raises(ValueError, match=r"'all'.*inner_group"):
        build(parameter_sharing="all")
    with pytest.raises(ValueError, match="n_groups=0"):
        build(n_groups=0)
    with pytest.raises(ValueError, match="d_model=7 must be even"):
        SAITS(5, 6, d_model=7)
    call = example(t=4)
    with pytest.raises(ValueError, match="4 steps were given to a model of window=6"):
        build().loss(**call)
