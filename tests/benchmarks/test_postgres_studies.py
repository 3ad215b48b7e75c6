"""Studies of Optuna in PostgreSQL, with several processes at once."""

import subprocess
import sys
from pathlib import Path

import optuna
from commands import environment
from postgres import Postgres

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
