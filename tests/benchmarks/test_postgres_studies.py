"""Studies of Optuna in PostgreSQL, with several processes at once."""

from pathlib import Path

from commands import call
from postgres import Postgres
from studies import SMALL, counted, prepare


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
