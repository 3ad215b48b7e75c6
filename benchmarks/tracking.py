"""MLflow mirror of the runs: the only module that imports mlflow.

The local row is the result; MLflow shows it. Whatever keeps the store from being reached is said
once, and the run goes on.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from benchmarks.errors import InputError
from benchmarks.rows import METRICS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

KINDS = ("mlflow", "none")
PARENT_TAG = "psan.sweep"
"""Marks the parent run of an experiment's sweeps."""

PARAMETERS = {
    "model": "model.name",
    "dataset": "dataset.name",
    "pattern": "mask.name",
    "rate": "mask.rate",
    "protocol": "protocol",
    "window": "window",
    "seed": "seed",
    "mask_seed": "mask_seed",
    "max_epochs": "trainer.max_epochs",
    "batches_per_epoch": "trainer.batches_per_epoch",
}
"""Columns of the run table in the UI, and where in the configuration they stand; the values under
`model.network` and `model.training` are logged besides."""

METRIC_COLUMNS = (
    *(f"{convention}_{metric}" for convention in ("window", "step") for metric in METRICS),
    "val_mae", "rate_native", "rate_hidden", "rate_total", "n_params", "epochs", "best_epoch",
    "train_steps", "train_seconds", "seconds_per_step", "windows_per_second", "peak_memory_mb",
)  # fmt: skip

EPOCH_SECONDS = 5
"""Epochs are sent together, at least this long after the last ones were."""

MOST_METRICS = 500
"""As many values are sent at once; MLflow takes 1000."""


class Tracker:
    """One cell's run in MLflow.

    Args:
        tracking: `kind` ("mlflow" or "none") and `uri` of the store.
        experiment: the experiment's name; the sweep's parent run bears it too.
        identity: the row's columns that are known before the run.
        config: the resolved configuration.
    """

    def __init__(
        self,
        tracking: Mapping[str, Any],
        experiment: str,
        identity: Mapping[str, Any],
        config: Mapping[str, Any],
    ):
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._waiting: list[Metric] = []
        self._what = f"{identity['model']} on {identity['dataset']} ({identity['key']})"
        with self._guard("the run"):
            self._client = connect(tracking)
            if self._client is not None:
                self._start(experiment, identity, config)
        self._sent = time.monotonic()

    def epoch(self, line: Mapping[str, float]) -> None:
        """Notes an epoch's line of the history, and sends what is noted when it is time to."""
        if self._client is None:
            return
        with self._guard("an epoch"):
            values = {f"history/{name}": line[name] for name in line if name != "epoch"}
            self._waiting += _metrics(values, step=int(line["epoch"]))
            late = time.monotonic() - self._sent >= EPOCH_SECONDS
            if late or len(self._waiting) >= MOST_METRICS:
                self._send({})

    def finish(self, row: Mapping[str, Any], folder: Path) -> None:
        """Logs the scores and the artifacts, and ends the run."""
        if self._client is None:
            return
        with self._guard("the scores"):
            scores = {name: row[name] for name in METRIC_COLUMNS if row.get(name) is not None}
            tags = {
                "status": row["status"],
                "mask_hash": row.get("mask_hash", ""),
                "git_commit": row["git_commit"],
            }
            if row["reason"]:
                tags["reason"] = row["reason"]
            self._waiting += _metrics(scores)
            self._send({"psan." + name: str(tag) for name, tag in tags.items()})
            for path in (folder / "config.yaml", folder / "history.csv", folder / "example.npz"):
                if path.exists():
                    self._client.log_artifact(self._run_id, str(path))
            if (folder / "example.npz").exists():
                from benchmarks.figures import example_figure

                figure = example_figure(folder / "example.npz", row)
                self._client.log_figure(self._run_id, figure, "example.png")
            status = "FINISHED" if row["status"] in ("done", "skipped", "pruned") else "FAILED"
            self._client.set_terminated(self._run_id, status)

    def _start(
        self, experiment: str, identity: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        from mlflow.entities import Param

        assert self._client is not None
        experiment_id, parent = open_experiment(self._client, experiment)
        rate = "" if identity["rate"] is None else f" {identity['rate']:.0%}"
        run = self._client.create_run(
            experiment_id,
            run_name=f"{identity['model']} {identity['dataset']} {identity['pattern']}{rate}",
            tags={
                "mlflow.parentRunId": parent,
                "psan.run_key": identity["key"],
                "psan.dataset_fingerprint": identity["dataset_fingerprint"],
                "psan.budget": identity["budget"],
            },
        )
        self._run_id = run.info.run_id
        self._client.log_batch(
            self._run_id,
            params=[Param(name, str(value)[:500]) for name, value in parameters(config).items()],
        )

    def _send(self, tags: Mapping[str, str]) -> None:
        """Logs all metrics that wait, and some tags, in one call."""
        from mlflow.entities import RunTag

        assert self._client is not None
        metrics, self._waiting = self._waiting, []
        self._client.log_batch(
            self._run_id, metrics, tags=[RunTag(name, value) for name, value in tags.items()]
        )
        self._sent = time.monotonic()

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """Lets the run go on without MLflow, whatever the store answers."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("MLflow: %s of %s was not tracked: %s", what, self._what, reason)
            self._client = None
            _reach.cache_clear()  # the next cell asks anew whether the store is there
            open_experiment.cache_clear()


def _metrics(values: Mapping[str, float], step: int = 0) -> "list[Metric]":
    """Values as MLflow takes them, as of now."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, step) for name, value in values.items()]


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as the few columns that the UI shows."""

    def at(path: str) -> Any:
        value: Any = config
        for part in path.split("."):
            value = value[part]
        return value

    network = {k: v for k, v in config["model"]["network"].items() if k != "_target_"}
    training = config["model"].get("training") or {}
    return {name: at(path) for name, path in PARAMETERS.items()} | network | training


def connect(tracking: Mapping[str, Any]) -> "MlflowClient | None":
    """A client of the store that `tracking` names, or None if nothing is to be tracked.

    Raises:
        InputError: an unknown kind.
    """
    if tracking["kind"] not in KINDS:
        raise InputError(
            f"tracking.kind={tracking['kind']!r} is unknown; choose from {', '.join(KINDS)}"
        )
    return None if tracking["kind"] == "none" else _reach(str(tracking["uri"]))


@cache
def _reach(uri: str) -> "MlflowClient":
    """A client of a store that answered; once a process, unless the store fails later."""
    # a store that does not answer must not hold up a run for MLflow's default of minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # importing mlflow sets their levels
        logging.getLogger(name).setLevel(logging.WARNING)
    with _creation_lock(uri):  # the first use of an SQLite store creates its tables
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


@cache
def open_experiment(client: "MlflowClient", name: str) -> tuple[str, str]:
    """Ids of the experiment and of its sweep's parent run, created by whoever comes first."""
    title = f"psan/{name}"
    with _creation_lock(client.tracking_uri):
        found = client.get_experiment_by_name(title)
        experiment_id = found.experiment_id if found else client.create_experiment(title)
        parents = client.search_runs(
            [experiment_id], f"tags.`{PARENT_TAG}` = '{name}'", max_results=1
        )
        if parents:
            return experiment_id, parents[0].info.run_id
        run = client.create_run(experiment_id, run_name=f"sweep {name}", tags={PARENT_TAG: name})
        client.set_terminated(run.info.run_id)
        return experiment_id, run.info.run_id


def _creation_lock(uri: str) -> FileLock:
    """A lock beside a local store; for a server, one for all in the working directory."""
    local = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else "mlflow"
    Path(local).parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{local}.lock")
