"""Where the suite finds its configuration."""

from pathlib import Path

from benchmarks.errors import InputError


def conf_dir() -> Path:
    """Return the folder of Hydra groups: inside the installed package, else the checkout's."""
    package = Path(__file__).parent
    for folder in (package / "conf", package.parent / "conf"):
        if folder.is_dir():
            return folder
    raise InputError(f"no conf folder in {package} nor beside it: is the installation complete?")
