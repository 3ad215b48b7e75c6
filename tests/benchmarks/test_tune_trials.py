"""The plan of a study, trials whose process died, and the GPUs of workers."""

import json
import os
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from studies import SMALL, prepare

from benchmarks.claims import STALE_SECONDS, Claim, claimed
from benchmarks.errors import InputError
from benchmarks.gpus import VISIBLE
from benchmarks.rows import cell_folder
from benchmarks.tune.fields import CELL, CLAIM, REPLACES
from benchmarks.tune.options import parse
from benchmarks.tune.plan import Plan, make_plan
from benchmarks.tune.records import read_records
from benchmarks.tune.study import MOST_REPEATS, counted, next_trial, open_study, recover
from benchmarks.tune.work import use_own_gpus

GONE = {"host": "elsewhere", "pid": 1, "process_started": 0.0, "since": 0.0}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of small networks, not begun."""
    monkeypatch.chdir(prepare(tmp_path))
    return make_plan(parse([*SMALL, "n_trials=3", "tracking=none"]))


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_parameters_whose_process_dies_again_and_again_are_left_alone(plan: Plan) -> None:
    study = open_study(plan, "fingerprint")
    first = None
    for attempt in range(1, MOST_REPEATS + 1):
        trial = next_trial(study, plan)
        assert trial is not None
        first = first or trial.params
        assert trial.params == first
        assert len(counted(study.get_trials(deepcopy=False))) == 1
        trial.set_user_attr(CLAIM, GONE)
        recover(study, plan)
        waiting = [TrialState.WAITING] if attempt < MOST_REPEATS else []
        assert states(study) == [TrialState.FAIL] * attempt + waiting
    following = next_trial(study, plan)
    assert following is not None
    assert following.params != first
    assert REPLACES not in following.user_attrs


def test_a_process_that_lives_keeps_its_trial(plan: Plan) -> None:
    study = open_study(plan, "fingerprint")
    trial = next_trial(study, plan)
    assert trial is not None
    recover(study, plan)
    assert states(study) == [TrialState.RUNNING]
    assert Claim(**trial.user_attrs[CLAIM]).pid == os.getpid()
    other = Claim.own()
    trial.set_user_attr(CLAIM, {**vars(other), "process_started": other.process_started - 3600})
    recover(study, plan)  # the number of its process is another's now
    assert states(study) == [TrialState.FAIL, TrialState.WAITING]


def test_on_another_machine_the_heartbeat_of_the_cell_tells(plan: Plan) -> None:
    study = open_study(plan, "fingerprint")
    trial = next_trial(study, plan)
    assert trial is not None
    trial.set_user_attr(CLAIM, {**GONE, "since": time.time()})
    recover(study, plan)  # it has just begun, and has no cell yet
    assert states(study) == [TrialState.RUNNING]
    trial.set_user_attr(CELL, "0" * 16)
    folder = cell_folder(plan.folder, "0" * 16)
    folder.mkdir(parents=True)
    with claimed(folder):
        claim = folder / "claim.json"
        claim.write_text(json.dumps(GONE))
        recover(study, plan)
        assert states(study) == [TrialState.RUNNING]
        long_ago = time.time() - 2 * STALE_SECONDS
        os.utime(claim, (long_ago, long_ago))
        recover(study, plan)
    assert states(study) == [TrialState.FAIL, TrialState.WAITING]


def test_a_study_has_all_of_its_trials_and_no_more(plan: Plan) -> None:
    study = open_study(plan, "fingerprint")
    taken = []
    for _ in range(3):
        trial = next_trial(study, plan)
        assert trial is not None
        taken.append(trial.number)
        study.tell(trial, 1.0 + trial.number)
    assert taken == [0, 1, 2]
    assert next_trial(study, plan) is None


@pytest.mark.parametrize(
    ("visible", "devices", "parts"),
    [
        ("0,1", 1, ["0", "1", "0"]),
        ("4,5,6,7,8", 2, ["4,5", "6,7", "4,5"]),
        ("0", 2, ["0", "0", "0"]),  # too few: the training says so
        ("", 1, ["", "", ""]),
    ],
)
def test_each_worker_has_gpus_of_its_own(
    visible: str, devices: int, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, part in enumerate(parts):
        monkeypatch.setenv(VISIBLE, visible)
        use_own_gpus(number, devices)
        assert os.environ[VISIBLE] == part


def test_damaged_files_of_a_study_are_named(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("choice: psan\nspace: {model.network.k: {int: [1, 2]}}\n")
    with pytest.raises(InputError, match=r"trials\.csv is not there"):
        read_records(tmp_path)
    (tmp_path / "trials.csv").write_text("trial,state\nfive,done\n")
    (tmp_path / "epochs.csv").write_text("trial,epoch,val_mae\n")
    with pytest.raises(InputError, match="are damaged"):
        read_records(tmp_path)


def test_keys_and_experiments_are_those_of_a_run() -> None:
    """A key that only the tuned method has, and the budget of a sweep's configuration."""
    given = ["model=brits", "dataset=simulated", "model.network.d_hidden=32", "experiment=methods"]
    plan = make_plan(parse(given))
    assert plan.name == "brits_simulated"
    assert plan.folder == Path("results/tuning/brits_simulated")
    assert plan.default.model["network"]["d_hidden"] == 32
    assert plan.default.trainer.max_epochs == 40
    assert plan.definition("x")["budget"] == "40 epochs x 100 batches of 4"
