"""GRIN against its golden files, and its edge cases."""

import pytest
import torch
from golden_files import Golden, assert_gradients, golden_paths
from torch import Tensor

from baselines.graph_gru import both_ways, hops
from baselines.grin import GRIN
from baselines.grin_decoder import decoder_matrices

PATHS = golden_paths("grin")
IDS = [path.stem for path in PATHS]


def load(path, dtype: torch.dtype) -> tuple[Golden, GRIN, dict[str, Tensor]]:
    """The golden model and its inputs; the exogenous features of the files differ by node."""
    golden = Golden(path)
    sizes = golden.hparams
    same_name = ("d_hidden", "d_ff", "d_emb", "n_layers", "kernel_size", "decoder_order")
    same_name += ("layer_norm", "ff_dropout")
    model = GRIN(
        torch.zeros(sizes["N"], sizes["N"]),
        **{name: sizes[name] for name in same_name},
        global_attention=sizes["global_att"],
        n_time_features=sizes["d_u"],
    ).to(dtype)
    model.load_state_dict(golden.group("param", dtype), strict=True)
    inputs = golden.group("in", dtype)
    call = {
        "x": inputs["x"],
        "observed": inputs["mask"] > 0,
        "exogenous": inputs.get("u", inputs["x"][..., :0]),
        "target": inputs["target"],
        "visible": inputs["mask_target"] > 0,
    }
    return golden, model, call


def outputs(model: GRIN, call: dict[str, Tensor]) -> dict[str, Tensor]:
    found = model.stages(call["x"], call["observed"], call["exogenous"])
    return {
        "imputation_train": found.final,
        "imputation_eval": call["x"].where(call["observed"], found.final),
        "predictions_train": torch.cat([found.second_stage, found.first_stage]),
        "loss": model.error(found, call["target"], call["visible"]),
    }


@pytest.mark.parametrize(
    ("dtype", "group", "tolerance"), [(torch.float32, "out", 1e-5), (torch.float64, "out64", 1e-9)]
)
@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_golden_outputs(path, dtype, group, tolerance):
    golden, model, call = load(path, dtype)
    got = outputs(model, call)
    expected = golden.group(group)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_golden_gradients(path):
    golden, model, call = load(path, torch.float32)
    outputs(model, call)["loss"].backward()
    assert_gradients(model, golden)
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == golden.meta["params_without_grad"]


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_hidden_values_change_nothing(path, junk):
    _, model, call = load(path, torch.float32)
    clean = outputs(model, call)
    clean["loss"].backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    call["x"] = call["x"].where(call["observed"], junk)
    call["target"] = call["target"].where(call["visible"], junk)
    soiled = outputs(model, call)
    soiled["loss"].backward()
    for name in ("imputation_train", "predictions_train", "loss"):
        assert torch.equal(clean[name], soiled[name]), name
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


def build(**sizes) -> GRIN:
    """A small model on a graph whose last node has no neighbour."""
    adjacency = torch.rand(5, 5, generator=torch.Generator().manual_seed(1)).fill_diagonal_(0.0)
    adjacency[-1] = adjacency[:, -1] = 0.0
    return GRIN(adjacency, d_hidden=6, d_ff=7, d_emb=3, **sizes)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"n_time_features": 2, "n_layers": 2, "layer_norm": True, "dropout": 0.5},
        {"decoder_order": 3, "global_attention": True, "ff_dropout": 0.5},
    ],
    ids=str,
)
def test_batch_of_one_sensor_unknown_and_node_alone(sizes):
    model, call = build(**sizes).eval(), example(f=sizes.get("n_time_features", 0))
    inputs = [call[name] for name in ("x", "observed", "time_features")]
    whole = model(*inputs)
    assert whole.isfinite().all()
    torch.testing.assert_close(model(*(a[1:] for a in inputs)), whole[1:])
    model.train().loss(**call).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_nodes_may_be_renumbered():
    """Node i of one model is node i of the other, whatever its number."""
    model, call, order = build(), example(), torch.tensor([3, 0, 4, 1, 2])
    other = GRIN(model.adj[order][:, order], d_hidden=6, d_ff=7, d_emb=3)
    state = {
        name: value[:, order] if name.endswith((".emb", "h0.0")) else value
        for name, value in model.state_dict().items()
        if name != "adj"
    }
    other.load_state_dict(state, strict=False)
    x, observed, time_features = (call[name] for name in ("x", "observed", "time_features"))
    torch.testing.assert_close(
        other(x[:, :, order], observed[:, :, order], time_features),
        model(x, observed, time_features)[:, :, order],
    )


def test_without_labels_the_loss_is_zero():
    model, call = build(), example()
    loss = model.loss(**call | {"visible": torch.zeros_like(call["visible"])})
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_loss_of_the_public_call_is_that_of_its_stages():
    model, call = build(n_time_features=2, prediction_weight=0.5), example(f=2)
    features = call["time_features"][:, :, None].expand(-1, -1, 5, -1)
    found = model.stages(call["x"], call["observed"], features)
    expected = model.error(found, call["target"], call["visible"])
    assert torch.equal(model.loss(**call), expected)
    with pytest.raises(RuntimeError):
        model.loss(**call | {"time_features": call["time_features"][..., :1]})


def test_state_dict_round_trip():
    call = example()
    first, second = build(), build()
    assert not torch.equal(first.loss(**call), second.loss(**call))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first.loss(**call), second.loss(**call))


@pytest.mark.parametrize("sizes", [{}, {"layer_norm": True, "global_attention": True}], ids=str)
def test_mixed_precision_runs_and_stays_near(sizes):
    model, call = build(**sizes), example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(**call)
    torch.testing.assert_close(loss, model.loss(**call), rtol=0.05, atol=0.0)


def test_global_attention_needs_two_nodes():
    with pytest.raises(ValueError, match="got 1 node"):
        GRIN(torch.zeros(1, 1), global_attention=True)


def test_propagation_matrices():
    adjacency = torch.tensor([[0.0, 2.0, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    forward, backward = both_ways(adjacency)
    expected = torch.tensor([[0, 0.5, 0.5], [0, 0, 1], [0, 0, 0]])
    torch.testing.assert_close(forward, expected)
    torch.testing.assert_close(backward, torch.tensor([[0, 0, 0], [1, 0, 0], [2 / 3, 1 / 3, 0]]))
    torch.testing.assert_close(
        hops(torch.stack([forward, backward]), 2),
        torch.stack([forward, forward @ forward, backward, backward @ backward]),
    )
    others = 1 - torch.eye(3)
    second = forward @ forward.T * others
    torch.testing.assert_close(
        decoder_matrices(torch.stack([forward, backward]), 3)[2:4],
        torch.stack([second, second @ forward.T * others]),
    )
