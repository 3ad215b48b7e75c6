"""The benchmark suite: data, masks, training, scoring, tracking, reports."""
