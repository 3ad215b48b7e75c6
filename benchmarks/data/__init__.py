"""Traffic series: reading, checking and fetching them.

A dataset is a YAML in `conf/dataset/` whose `loader` names a function that returns a `Series`:

    loader:
      _target_: my_package.my_module.load     # load(name, data_root, **the other keys) -> Series
      any_option: 3
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import benchmarks.data.series


def load_series(dataset_cfg: Mapping[str, Any], data_root: Path) -> "benchmarks.data.series.Series":
    """Load the dataset that a configuration describes, and refuse it if it is not the real one.

    Args:
        dataset_cfg: the `dataset` group: `name`, `loader` and optionally `expected`, the facts that
            the series must satisfy (`expected: null` switches that check off).
        data_root: folder with one sub-folder per dataset.

    Raises:
        InputError: for a missing or broken file, a bad loader, or data that are not the expected.
    """
    from benchmarks.data.loading import load_series as load  # pandas stays out of `--help`

    return load(dataset_cfg, data_root)
