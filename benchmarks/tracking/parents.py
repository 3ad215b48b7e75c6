"""Experiments and the runs that gather others: a sweep's, a study's."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.tracking.store import CACHES, creation_lock, patiently

if TYPE_CHECKING:
    from mlflow import MlflowClient


EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "step_mae",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
}
"""What the UI needs to know; it would take the runs for evaluations of a language model."""


@dataclass(frozen=True)
class Parent:
    """A run under which others stand.

    Args:
        kind: "sweep", "study" or another word; the tag `psan.<kind>` bears the name.
        name: of the sweep or the study, unique within its experiment and kind.
    """

    kind: str
    name: str

    @property
    def tag(self) -> str:
        """The tag by which it is found."""
        return f"psan.{self.kind}"


@cache
def open_experiment(client: "MlflowClient", name: str) -> str:
    """Id of the experiment, created by whoever comes first."""
    from mlflow.exceptions import MlflowException

    title = f"psan/{name}"
    with creation_lock(client.tracking_uri):
        found = patiently(client.get_experiment_by_name, title)
        if found is not None:
            return str(found.experiment_id)
        try:
            return patiently(client.create_experiment, title, tags=EXPERIMENT_TAGS)
        except MlflowException:  # another machine has just created it
            found = client.get_experiment_by_name(title)
            if found is None:
                raise
            return str(found.experiment_id)


@cache
def open_parent(client: "MlflowClient", experiment_id: str, parent: Parent) -> str:
    """Id of the run under which others stand, created by whoever comes first."""
    with creation_lock(client.tracking_uri):
        found = _find(client, experiment_id, parent)
        if found:
            return found[0]
        run = patiently(
            client.create_run,
            experiment_id,
            run_name=f"{parent.kind} {parent.name}",
            tags={parent.tag: parent.name},
        )
        own = run.info.run_id
        patiently(client.set_terminated, own)
        first = _find(client, experiment_id, parent)[0]
        if first != own:  # another machine was there by a hair
            patiently(client.delete_run, own)
        return first


CACHES.extend((open_experiment.cache_clear, open_parent.cache_clear))


def _find(client: "MlflowClient", experiment_id: str, parent: Parent) -> list[str]:
    """Ids of the runs that could be it, the oldest first."""
    found = patiently(
        client.search_runs,
        [experiment_id],
        f"tags.`{parent.tag}` = '{parent.name}'",
        order_by=["attributes.start_time", "attributes.run_id"],
    )
    return [run.info.run_id for run in found]
