"""The baselines against plain formulations of the same mathematics, with the same weights."""

import imputer_checks as checks
import pytest
import torch
from plain_brits import PlainBRITS
from plain_grin import PlainGRIN
from plain_imputeformer import PlainImputeFormer
from plain_saits import PlainSAITS
from plain_spin import PlainSPIN
from plain_spin_h import PlainSPINH

from baselines.brits import BRITS
from baselines.grin import GRIN
from baselines.imputeformer import ImputeFormer
from baselines.saits import SAITS
from baselines.spin import SPIN
from baselines.spin_h import SPINH

NODES, WINDOW, SILENT = 6, 7, 2
ADJACENCY = torch.diag(torch.tensor([0.9, 0.8, 0.7, 0.6]), 1)
ADJACENCY[3, 0] = 0.5
ADJACENCY = torch.nn.functional.pad(ADJACENCY, (0, 1, 0, 1))  # the last node is isolated

GRIN_SIZES = {"adjacency": ADJACENCY, "d_hidden": 6, "d_ff": 5, "d_emb": 3, "n_time_features": 0}
SPIN_SIZES = {"n_nodes": NODES, "adjacency": ADJACENCY, "n_layers": 3, "eta": 2}
SAITS_SIZES = {"n_nodes": NODES, "window": WINDOW, "d_model": 8, "d_inner": 10, "n_heads": 2}
CASES = {
    "brits": (BRITS, PlainBRITS, {"n_nodes": NODES, "d_hidden": 8}),
    "brits-bare": (
        BRITS,
        PlainBRITS,
        {"n_nodes": NODES, "d_hidden": 8, "restore_observed": False, "consistency_weight": 0.7},
    ),
    "grin": (GRIN, PlainGRIN, GRIN_SIZES),
    "grin-all": (
        GRIN,
        PlainGRIN,
        GRIN_SIZES
        | {"n_layers": 2, "kernel_size": 3, "decoder_order": 3, "n_time_features": 4}
        | {"global_attention": True, "layer_norm": True, "prediction_weight": 0.3},
    ),
    "spin": (SPIN, PlainSPIN, SPIN_SIZES | {"d_hidden": 8}),
    "spin-l1": (SPIN, PlainSPIN, SPIN_SIZES | {"reweight": "l1", "message_layers": 2}),
    "spin-none": (SPIN, PlainSPIN, SPIN_SIZES | {"d_hidden": 8, "reweight": "none"}),
    "spin_h": (SPINH, PlainSPINH, SPIN_SIZES | {"h_size": 8, "z_size": 6}),
    "spin_h-cross": (
        SPINH,
        PlainSPINH,
        SPIN_SIZES | {"h_size": 8, "z_size": 6, "z_heads": 2, "update_z_cross": True},
    ),
    "spin_h-add": (
        SPINH,
        PlainSPINH,
        SPIN_SIZES
        | {"h_size": 8, "z_size": 6, "update_z_cross": True, "norm": False}
        | {"spatial_aggr": "add", "reweight": "l1", "message_layers": 2},
    ),
    "saits": (SAITS, PlainSAITS, SAITS_SIZES),
    "saits-inner": (
        SAITS,
        PlainSAITS,
        SAITS_SIZES
        | {"n_groups": 2, "n_group_inner_layers": 3, "trainable_mask_token": True}
        | {"input_with_mask": False, "reconstruction_weight": 0.3},
    ),
    "saits-between": (
        SAITS,
        PlainSAITS,
        SAITS_SIZES
        | {"n_groups": 2, "n_group_inner_layers": 3, "parameter_sharing": "between_group"}
        | {"diagonal_mask": False, "d_k": 3, "d_v": 5},
    ),
    "imputeformer": (
        ImputeFormer,
        PlainImputeFormer,
        {"n_nodes": NODES, "window": WINDOW, "n_time_features": 4, "d_input": 4, "d_embedding": 8}
        | {"d_ff": 10, "d_projector": 3, "n_heads": 2, "n_layers": 2, "dropout": 0.0}
        | {"fourier_weight": 0.5},
    ),
}

pytestmark = [
    pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys()),
    pytest.mark.parametrize(
        "dtype", [torch.float32, torch.float64], ids=lambda d: str(d).removeprefix("torch.")
    ),
]


def build(case, dtype: torch.dtype):
    """Package and oracle with equal weights, none of them at its first value."""
    published, plain, sizes = case
    torch.manual_seed(0)
    model, oracle = published(**sizes), plain(**sizes)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    oracle.load_state_dict(model.state_dict(), strict=True)
    return model.to(dtype), oracle.to(dtype)


def windows(case, dtype: torch.dtype) -> checks.Batch:
    """A batch with NaN in its gaps and one sensor without any reading."""
    batch = checks.random_batch(NODES, WINDOW, case[2].get("n_time_features", 4), n_batch=3)
    batch.visible[:, :, SILENT] = False
    observed = batch.observed & batch.visible
    assert observed.any()
    assert (batch.visible & ~observed).any()
    return checks.Batch(
        batch.x.masked_fill(~observed, torch.nan).to(dtype),
        observed,
        batch.time_features.to(dtype),
        batch.target.masked_fill(~batch.visible, torch.nan).to(dtype),
        batch.visible,
    )


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    value = 1e-5 if dtype == torch.float32 else 1e-9
    return {"rtol": value, "atol": value}


def test_outputs(case, dtype: torch.dtype) -> None:
    batch = windows(case, dtype)
    output, expected = (model.eval()(*batch.seen) for model in build(case, dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, **tolerance(dtype))


def test_loss_and_gradients(case, dtype: torch.dtype) -> None:
    batch = windows(case, dtype)
    model, oracle = (network.train() for network in build(case, dtype))
    loss, gradients = checks.gradients(model, batch)
    expected_loss, expected = checks.gradients(oracle, batch)
    torch.testing.assert_close(loss, expected_loss, **tolerance(dtype))
    assert gradients.keys() == expected.keys()
    assert checks.names_without_gradient(model) == checks.names_without_gradient(oracle)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else tolerance(dtype)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], **close, msg=lambda m, n=name: f"{n}: {m}"
        )
