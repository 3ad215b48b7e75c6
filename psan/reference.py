"""Weights of the published PSAN code, put into this implementation."""

from collections.abc import Mapping

import torch
from torch import Tensor

from psan.model import PSAN

_BRANCHES = {"future": "r", "past": "l"}


def load_reference_weights(model: PSAN, state_dict: Mapping[str, Tensor]) -> PSAN:
    """Fills `model` with a checkpoint of the published code; outputs then agree to 1e-5.

    Args:
        model: a model of the checkpoint's sizes.
        state_dict: names and tensors as in github.com/CQRhinoZ/PSAN, commit b824104.

    Returns:
        The same model.

    Raises:
        ValueError: names that are missing or left over, or a shape that does not fit.
    """
    names = reference_names(model)
    missing = sorted({name for group in names.values() for name in group} - set(state_dict))
    unknown = sorted(set(state_dict) - {name for group in names.values() for name in group})
    if missing or unknown:
        raise ValueError(
            f"not a PSAN checkpoint of this depth: missing {missing}, unknown {unknown}"
        )
    parameters = dict(model.named_parameters())
    values = {}
    for name, sources in names.items():
        target = parameters[name]
        parts = [state_dict[source] for source in sources]
        if sum(part.numel() for part in parts) != target.numel():
            shapes = [tuple(part.shape) for part in parts]
            raise ValueError(
                f"{sources} have shapes {shapes}, the model's {name} {tuple(target.shape)}"
            )
        # size-1 axes of the published convolutions vanish; two gates become one stack
        values[name] = torch.cat([part.reshape(-1) for part in parts]).view_as(target)
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
    return model


def reference_names(model: PSAN) -> dict[str, list[str]]:
    """This implementation's parameter names, each with the published ones that it holds."""
    names = {
        "embedding.position": ["DataEmb.SE"],
        "prototypes.vectors": ["Encoder.pn.proto"],
        **_linear("embedding.readings", "DataEmb.input_embedding"),
        **_linear("embedding.mix", "DataEmb.input_proj"),
        **_linear("head.0", "imputer.0"),
        **_linear("head.2", "imputer.2"),
    }
    for layer in range(len(model.temporal)):
        names |= _temporal_names(f"temporal.{layer}", f"Encoder.T.{layer}")
        names |= _spatial_names(f"spatial.{layer}", layer)
    return names


def _linear(ours: str, published: str) -> dict[str, list[str]]:
    return {f"{ours}.{kind}": [f"{published}.{kind}"] for kind in ("weight", "bias")}


def _temporal_names(ours: str, published: str) -> dict[str, list[str]]:
    names = _linear(f"{ours}.join", f"{published}.fc")
    for branch, letter in _BRANCHES.items():
        gated, local = f"{published}.{letter}_gtcn", f"{published}.{letter}_ltcn"
        names |= _linear(f"{ours}.{branch}.global_taps", f"{gated}.cc")
        names |= _linear(f"{ours}.{branch}.global_out", f"{gated}.fc")
        names |= _linear(f"{ours}.{branch}.local_taps", f"{local}.cc")
        names |= _linear(f"{ours}.{branch}.local_out", f"{local}.fc")
        for kind in ("weight", "bias"):
            gates = [f"{gated}.gated_fusion.gate{i}.{kind}" for i in (1, 2)]
            names[f"{ours}.{branch}.gate.{kind}"] = gates
    return names


def _spatial_names(ours: str, layer: int) -> dict[str, list[str]]:
    attention, after = f"Encoder.S.{layer}.mhssa", f"Encoder.resi.{layer}"
    names = {
        f"{ours}.query": [f"{attention}.FC_Q"],
        f"{ours}.key": [f"{attention}.FC_K"],
        f"{ours}.value": [f"{attention}.FC_V"],
        f"{ours}.out": [f"{attention}.out_proj"],
    }
    names |= _linear(f"{ours}.hidden", f"{after}.ffn.0")
    names |= _linear(f"{ours}.shrink", f"{after}.ffn.2")
    names |= _linear(f"{ours}.norm_attention", f"{after}.ln1")
    return names | _linear(f"{ours}.norm_out", f"{after}.ln2")
