"""Names of what a study keeps, in its storage and in its files; importing it loads nothing."""

STUDY, TRIALS, EPOCHS = "study.yaml", "trials.csv", "epochs.csv"
"""Files of a study: what it is, a line for each trial, and validation MAE after each epoch."""

DEFINITION = "definition"
"""Attribute of the study in Optuna: what may not change between launches."""

REPLACES, CLAIM, CELL, ORIGIN = "replaces", "claim", "cell", "origin"
"""Attributes of a trial in Optuna: the number of the one that it repeats, the process that runs it,
the key of its cell, and where its parameters came from."""

CURVE, FACTS, REASON = "curve", "facts", "reason"
"""More of them, once it has ended: validation MAE of each epoch, what the training cost, and why it
failed."""

DEFAULT, SAMPLER = "default", "sampler"
"""Origins: the method's default configuration, which is never given up early, and TPE."""

KEPT = ("n_params", "epochs", "best_epoch", "train_steps", "train_seconds", "seconds_per_step")
"""Facts of a training that are kept."""

TEXTS = ("state", "reason", "origin", "key")

COLUMNS = ("trial", "state", "reason", "origin", "repeats", "val_mae", *KEPT, "key")
"""Columns of `trials.csv` before those of the parameters; `val_mae` is the best of the epochs that
the trial had, in original units, and `repeats` the trial that this one was run instead of."""

SECOND_COLUMN = {"seconds": "seconds_per_step", "parameters": "n_params"}
"""Which of these a second objective is about."""
