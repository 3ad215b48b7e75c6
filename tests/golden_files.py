"""Reader of the golden files: inputs, weights and outputs of the published implementations."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(os.environ.get("PSAN_GOLDEN") or Path(__file__).parent / "golden")


def golden_paths(stem: str) -> list[Path]:
    """Every golden file called `<stem>_<letters>.npz`; a test parametrises over the list."""
    paths = sorted(p for p in FOLDER.glob(f"{stem}_*.npz") if p.stem.rpartition("_")[0] == stem)
    if not paths:
        raise FileNotFoundError(f"no golden file {stem}_*.npz in {FOLDER}")
    return paths


@dataclass(frozen=True)
class Golden:
    """One golden file; keys are `param/…`, `in/…`, `out/…`, `out64/…`, `grad/…`, `mid/…`."""

    path: Path

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key != "meta"}

    @cached_property
    def meta(self) -> dict:
        with np.load(self.path, allow_pickle=False) as archive:
            return json.loads(str(archive["meta"]))

    @property
    def hparams(self) -> dict:
        return self.meta["hparams"]

    def group(self, prefix: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Tensors under `prefix/`, floating ones cast to `dtype`."""
        tensors = {
            key.removeprefix(f"{prefix}/"): torch.from_numpy(np.array(value))
            for key, value in self.arrays.items()
            if key.startswith(f"{prefix}/")
        }
        return {
            key: value.to(dtype) if dtype is not None and value.is_floating_point() else value
            for key, value in tensors.items()
        }


def assert_gradients(model: nn.Module, golden: Golden, rtol: float = 1e-4) -> None:
    """Gradients of `model` (names as published) agree with the file: stored ones and all norms."""
    named = {name: p.grad for name, p in model.named_parameters()}
    for name, expected in golden.group("grad").items():
        assert named[name] is not None, f"{name}: no gradient"
        torch.testing.assert_close(
            named[name], expected, rtol=rtol, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    for name, norm in golden.meta["grad_l2"].items():
        gradient = named[name]
        got = 0.0 if gradient is None else float(gradient.double().norm())
        assert abs(got - norm) <= 1e-6 + rtol * norm, f"{name}: |grad| {got}, expected {norm}"
