"""Runs of cells in a store: started, filled, ended, and found again."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.claims import Claim, holder
from benchmarks.rows import GOOD, cell_folder
from benchmarks.tracking.content import (
    FINISHED_TAG,
    KEY_TAG,
    Epoch,
    epoch_metrics,
    first_tags,
    gather_artifacts,
    last_tags,
    parameters,
    run_name,
    scores,
)
from benchmarks.tracking.store import patiently

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

WORKER_TAG = "psan.worker"
"""Who works on a run: host, process, and when that was started. A run that has ended has none."""

MOST_METRICS = 500
"""As many values are sent at once; MLflow takes 1000."""

MOST_RUNS = 1000
"""As many runs are asked for at once."""


def start_run(
    client: "MlflowClient",
    place: tuple[str, str],
    identity: Mapping[str, Any],
    config: Mapping[str, Any],
    when: int,
    tags: Mapping[str, str],
) -> str:
    """Creates a cell's run.

    Args:
        client: of the store.
        place: ids of the experiment and of the parent run.
        identity: the row's columns that are known before the run.
        config: the resolved configuration.
        when: milliseconds since 1970.
        tags: what is to be noted besides.

    Returns:
        The run's id.
    """
    experiment_id, parent_id = place
    run = patiently(
        client.create_run,
        experiment_id,
        when,
        run_name=run_name(identity),
        tags={"mlflow.parentRunId": parent_id} | first_tags(identity) | dict(tags),
    )
    log_parameters(client, run, config)
    return str(run.info.run_id)


def log_parameters(client: "MlflowClient", run: "Run", config: Mapping[str, Any]) -> None:
    """Sends the parameters that a run has not; MLflow lets none be changed."""
    from mlflow.entities import Param

    there = run.data.params
    lacking = [Param(k, v) for k, v in parameters(config).items() if k not in there]
    patiently(client.log_batch, run.info.run_id, params=lacking)


def log_epochs(client: "MlflowClient", run_id: str, epochs: Sequence[Epoch]) -> None:
    """Sends lines of the history, each as a whole; one that is there already is not doubled."""
    metrics: list[Metric] = []
    for epoch in epochs:
        metrics += _metrics(epoch_metrics(epoch), epoch.time, epoch.number)
        if len(metrics) >= MOST_METRICS or epoch is epochs[-1]:
            patiently(client.log_batch, run_id, metrics)
            metrics = []


def finish_run(
    client: "MlflowClient",
    run_id: str,
    row: Mapping[str, Any],
    folder: Path,
    when: int,
    status: str | None = None,
) -> None:
    """Sends the artifacts and the scores, and ends the run.

    Only a run that has its artifacts is complete; one that the store of the artifacts lets down
    ends nevertheless.

    Args:
        client: of the store.
        run_id: of the run.
        row: the cell's result row.
        folder: the cell's folder.
        when: milliseconds since 1970.
        status: MLflow's word for how it ended; by default the row's status decides.
    """
    from mlflow.entities import RunTag

    tags = last_tags(row)
    try:
        with tempfile.TemporaryDirectory() as gathered:
            gather_artifacts(row, folder, Path(gathered))
            patiently(client.log_artifacts, run_id, gathered)
        tags[FINISHED_TAG] = row["finished"]
    finally:
        all_tags = [RunTag(name, value) for name, value in tags.items()]
        patiently(client.log_batch, run_id, _metrics(scores(row), when), tags=all_tags)
        ended = "FINISHED" if row["status"] in GOOD else "FAILED"
        end_run_as(client, run_id, status or ended, when)


def end_run_as(client: "MlflowClient", run_id: str, status: str, when: int | None = None) -> None:
    """Ends a run: nobody works on it any longer."""
    if WORKER_TAG in patiently(client.get_run, run_id).data.tags:
        patiently(client.delete_tag, run_id, WORKER_TAG)
    patiently(client.set_terminated, run_id, status, when)


def kill_runs(client: "MlflowClient", runs: Sequence["Run"]) -> None:
    """Marks runs whose worker is gone."""
    for run in runs:
        patiently(client.set_tag, run.info.run_id, "psan.status", "killed")
        end_run_as(client, run.info.run_id, "KILLED")


def find_runs(
    client: "MlflowClient", experiment_id: str, key: str | None = None, running: bool = False
) -> Iterator["Run"]:
    """The runs of cells, the newest first.

    Args:
        client: of the store.
        experiment_id: where to look.
        key: of the cell; None for all cells.
        running: only those that have not ended.
    """
    which = [f"tags.`{KEY_TAG}` " + ("!= ''" if key is None else f"= '{key}'")]
    if running:
        which.append("attributes.status = 'RUNNING'")
    token = None
    while True:
        page = patiently(
            client.search_runs,
            [experiment_id],
            " AND ".join(which),
            max_results=MOST_RUNS,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def own_tag() -> dict[str, str]:
    """Says that this process works on a run."""
    return {WORKER_TAG: json.dumps(asdict(Claim.own()))}


def is_alive(run: "Run", experiment: Path | None = None) -> bool:
    """Whether somebody works on a run, or it cannot be told.

    Args:
        run: one that has not ended.
        experiment: folder of the experiment's results, where the claims on its cells are; without
            it nothing is known of other machines.
    """
    try:
        claim = Claim(**json.loads(run.data.tags[WORKER_TAG]))
    except (KeyError, ValueError, TypeError):  # not started by this suite, or long ago
        return True
    there = claim.process_is_there()
    if there is not None:
        return there
    folder = None if experiment is None else cell_folder(experiment, run.data.tags[KEY_TAG])
    return folder is None or not folder.is_dir() or holder(folder) is not None


def _metrics(values: Mapping[str, float], when: int, step: int = 0) -> "list[Metric]":
    from mlflow.entities import Metric

    return [Metric(name, float(value), when, step) for name, value in values.items()]
