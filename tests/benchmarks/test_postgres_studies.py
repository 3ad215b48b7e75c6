"""Studies of Optuna in PostgreSQL, with several processes at once."""

import subprocess
import sys
from pathlib import Path

import optuna
from commands import call, environment
from postgres import Postgres
from studies import SMALL, counted, prepare

WORKER = """
import sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="shared", storage=sys.argv[1])
study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=int(sys.argv[2]))
"""


def test_four_processes_share_a_study(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.new_database()
    study = optuna.create_study(study_name="shared", storage=uri)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, uri, "10"],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, said
    assert said == [""] * 4
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(40))
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}


def test_four_workers_tune_in_it(postgres: Postgres, tmp_path: Path) -> None:
    """Trials of two epochs: they are counted, taken, reported and ended all at once."""
    short = ("tracking=none", "trainer.max_epochs=2", "trainer.batches_per_epoch=1")
    where = ("n_workers=4", "n_trials=16", f"storage={postgres.new_database()}")
    done = call(prepare(tmp_path), "tune", *SMALL, *short, *where)
    assert done.returncode == 0, done.stderr
    table = counted(tmp_path)
    assert len(table) == 16
    assert set(table["state"]) <= {"done", "pruned"}
    assert list(table["trial"]) == list(range(16))
    assert table["epochs"].notna().all()
    assert (table["origin"] == "default").sum() == 1
    assert "lock" not in done.stderr.lower()
    assert "rror" not in done.stderr
