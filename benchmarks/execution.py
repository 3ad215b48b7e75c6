"""How a cell is executed, which changes no result; importing it loads no torch."""

from dataclasses import dataclass, fields

from benchmarks.errors import InputError


@dataclass(frozen=True)
class Execution:
    """Keys of `conf/config.yaml` that say how cells are run and watched.

    Attributes:
        isolate: run each cell in a process of its own, which may die without harm to the others.
        timeout: seconds after which a cell is stopped, or None.
        retry_failed: attempts that a launch gives to a cell that failed; 0 leaves it alone.
        fail_fast: stop the launch at the first cell that fails.
        cells_per_gpu: cells that may use a GPU at the same time.
    """

    isolate: bool
    timeout: float | None
    retry_failed: int
    fail_fast: bool
    cells_per_gpu: int

    def __post_init__(self) -> None:
        for name in ("isolate", "fail_fast"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}={getattr(self, name)} must be true or false")
        if self.timeout is not None and not (_number(self.timeout) and self.timeout > 0):
            raise InputError(f"timeout={self.timeout} must be a number of seconds, or null")
        for name, least in (("retry_failed", 0), ("cells_per_gpu", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise InputError(f"{name}={value} must be a whole number from {least} on")
        if self.timeout is not None and not self.isolate:
            raise InputError("timeout= needs isolate=true: a process cannot stop itself")

    @classmethod
    def names(cls) -> list[str]:
        """The keys."""
        return [field.name for field in fields(cls)]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
