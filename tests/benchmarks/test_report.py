"""The report and its figures, drawn from a small folder of results that the tests make."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_series import small_series

from benchmarks import figures, style
from benchmarks.errors import InputError
from benchmarks.figures import FIGURES, Drawing, example_figure, figure
from benchmarks.markdown import difference_table, escape, footnote, score_table
from benchmarks.masks import MaskedSeries
from benchmarks.masks.saved import mask_path, save_mask
from benchmarks.report import DEFAULTS, main, model_choice, write_report
from benchmarks.results import read_results
from benchmarks.rows import assemble, cell_folder, write_row

MODELS = {"mean": 8.0, "linear": 2.0, "psan": 1.6, "new_method": 1.8}
SCORES = {"rmse": 2.0, "mse": 4.0, "mre": 0.05, "mape": 0.1, "mape_left_out": 0.01}


def row(model: str, rate: float | None, seed: int | None, dataset: str) -> dict[str, object]:
    mae = MODELS[model] * (1 + (rate or 0)) + ((seed or 42) - 42) / 50
    trained = {"epochs": 3, "best_epoch": 2, "train_steps": 30, "seconds_per_step": 0.5}
    text = f"{model}{rate}{seed}{dataset}"
    return {
        "key": hashlib.sha256(text.encode()).hexdigest()[:16], "status": "done", "reason": "",
        "experiment": "small", "model": model, "label": model.capitalize(), "dataset": dataset,
        "title": f"Slice of {dataset.upper()}: the last 30 % of the period", "simulated": False,
        "unit": "mph", "pattern": "point" if rate else "block", "rate": rate, "protocol": "grin",
        "window": 24, "mask_seed": 7, "seed": seed,
        "budget": "closed form" if seed is None else "3 epochs x 10 batches of 4",
        "rate_native": 0.1, "rate_hidden": 0.2, "rate_total": 0.3,
        "mask_hash": masked(dataset).mask_hash,
        "dataset_fingerprint": masked(dataset).series.fingerprint,
        "scored_entries": 99, "n_params": 1234, "train_seconds": 60.0,
        "windows_per_second": 10.0, "peak_memory_mb": 500.0, "device": "cpu", "threads": 2,
        "suite_version": "0.1.0", "torch_version": "2.13.0", "python_version": "3.11.7",
        "git_commit": "abc", "finished": "2026-11-23T12:00:00+00:00",
        **{f"{way}_mae": mae for way in ("window", "step")},
        **{f"{way}_{name}": x for way in ("window", "step") for name, x in SCORES.items()},
        **({} if seed is None else trained),
    }  # fmt: skip


def example(shift: float) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    truth = 50 + random.normal(0, 5, (288, 4)).cumsum(axis=0) / 10
    state = random.integers(0, 3, truth.shape)  # hidden, seen, never recorded
    state[:, 3] = 2
    start = np.datetime64("2012-06-27T00:00")
    return {
        "truth": np.where(state == 2, np.nan, truth).astype(np.float32),
        "imputed": (truth + np.where(state == 1, 0, shift)).astype(np.float32),
        "held_out": state == 0,
        "visible": state == 1,
        "time": start + np.arange(288) * np.timedelta64(5, "m"),
        "sensors": np.array(["a", "b", "c", "d"]),
    }


def write_cell(experiment: Path, cell: dict[str, object], artifacts: bool = True) -> None:
    write_row(experiment, cell)
    folder = cell_folder(experiment, str(cell["key"]))
    if artifacts and cell["status"] == "done":
        np.savez_compressed(folder / "example.npz", **example(MODELS[str(cell["model"])]))
        lines = ["by,group,entries,step_mae"]
        lines += [f"gap_length,{gap},{9 - i},{cell['step_mae']}" for i, gap in enumerate("12")]
        lines += [f"congestion,{state},5,3.5" for state in ("free", "congested")]
        (folder / "scores.csv").write_text("\n".join(lines) + "\n")
        if cell["seed"] is not None:
            lines = ["epoch,loss,val_mae,learning_rate,seconds"]
            lines += [f"{i},0.5,{3 / i},0.001,{i}.0" for i in (1, 2, 3)]
            (folder / "history.csv").write_text("\n".join(lines) + "\n")


def settings(rates: tuple[float | None, ...]) -> list[tuple[str, float | None, int | None]]:
    return [
        (model, rate, seed)
        for model in MODELS
        for rate in rates
        for seed in ((None,) if model in ("mean", "linear") else (42, 43))
    ]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Four methods, two rates and a block pattern, two datasets, two seeds, one failure."""
    folder = tmp_path / "small"
    for dataset in ("roads", "streets"):
        for model, rate, seed in settings((0.25, 0.75, None)):
            cell = row(model, rate, seed, dataset)
            if (dataset, model, rate) == ("roads", "new_method", 0.75):
                cell |= {"status": "failed", "reason": "loss | is <NaN>\nat *step* 3"}
                cell |= {"window_mae": None, "step_mae": None}
            write_cell(folder, cell)
        save_mask(folder, masked(dataset))
    assemble(folder)
    return folder


def masked(dataset: str) -> MaskedSeries:
    """What the rows' masks could have hidden."""
    series = dataclasses.replace(small_series(), name=dataset)
    return MaskedSeries(series, np.random.default_rng(0).random(series.values.shape) < 0.25)


def report(experiment: Path, **options: str) -> str:
    given = {"experiment": experiment.name, "results_dir": str(experiment.parent)}
    return write_report({**DEFAULTS, **given, **options}).read_text()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_writes_the_report_without_torch_or_mlflow(experiment: Path) -> None:
    code = (
        "import sys; from benchmarks.report import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'mlflow', 'hydra', 'pytorch_lightning'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    arguments = ["experiment=small", f"results_dir={experiment.parent}", "figures=rate_curve"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{experiment / 'report.md'}\n"
    assert (experiment / "figures" / "rate_curve.svg").exists()


def test_help_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys; from benchmarks.report import main; main(['--help']); "
        "assert not {'pandas', 'matplotlib', 'numpy', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m benchmarks.report experiment=NAME")


def test_bad_input_is_one_line_and_exit_code_2(experiment: Path) -> None:
    done = run("experiment=smal", f"results_dir={experiment.parent}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: experiment=smal has no folder")
    assert done.stderr.endswith("there are: small\n")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["experiment=small", "resultdir=x"],
            "key=value with experiment, results_dir, figures, table",
        ),
        (["small"], "'small' is unknown"),
        (["experiment="], "has no value"),
        ([], "experiment=NAME is missing"),
        (["experiment=small", "figures=rate_curve,pie"], "choose from rate_curve, breakdowns"),
        (["experiment=small", "table=mse"], "table=mse is unknown; choose from mae"),
        (["experiment=small", "table=mae", "figures=none"], "leave figures= out"),
    ],
)
def test_wrong_arguments_name_the_valid_ones(
    experiment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (experiment.parent / "results").mkdir()
    experiment.rename(experiment.parent / "results" / "small")
    monkeypatch.chdir(experiment.parent)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_report_says_all_that_was_run(experiment: Path) -> None:
    text = report(experiment, figures="none")
    assert "36 runs of 4 methods on 2 datasets: 34 done, 2 failed." in text
    for words in (
        "**window** convention",
        "**step** convention",
        "Slice of ROADS: the last 30 % of the period",
        "Mean | closed form | `roads`, `streets`",
        "3 epochs x 10 batches of 4",
        "| `roads` | point 25 % | 10 % | 20 % | 30 % | 99 | 7 | 42, 43 |",
        "readings of 0 are left out, up to 1 % of the scored ones",
        "loss \\| is &lt;NaN&gt; at \\*step\\* 3",
        "| 0.1.0 | abc | 2.13.0 | 3.11.7 | cpu, 2 |",
        "mask=point protocol=grin dataset=roads,streets model=linear,mean,new_method,psan "
        "mask.rate=0.25,0.75 mask_seed=7 seed=42,43",
        f"python -m benchmarks.report experiment=small results_dir={experiment.parent}",
    ):
        assert words in text
    assert "{" not in text.replace("{{", "")


def test_every_figure_of_the_report_exists_twice_and_is_the_same_when_drawn_again(
    experiment: Path,
) -> None:
    for cell in read_results(experiment).of("streets")["key"]:
        for name in ("example.npz", "history.csv", "scores.csv"):  # of one dataset, to save time
            (cell_folder(experiment, cell) / name).unlink(missing_ok=True)
    text = report(experiment)
    first = {path.name: path.read_bytes() for path in (experiment / "figures").iterdir()}
    assert report(experiment) == text
    assert {path.name: path.read_bytes() for path in (experiment / "figures").iterdir()} == first
    stems = {name.partition(".")[0] for name in first}
    assert stems == {
        "rate_curve",
        "learning_curves_roads",
        "patterns_roads",
        "patterns_streets",
        *(
            f"{figure}_roads_{setting}"
            for figure in ("breakdowns", "examples")
            for setting in ("point_25", "point_75", "block")
        ),
    }
    for stem in stems:
        assert f"](figures/{stem}.png)" in text
        assert first[f"{stem}.png"].startswith(b"\x89PNG")
        assert b"<dc:date>" not in first[f"{stem}.svg"]


def test_scores_are_means_with_the_best_bold_and_the_second_underlined(experiment: Path) -> None:
    lines = score_table(read_results(experiment), "roads", "window_mae").splitlines()
    assert lines[0] == "| method | block | point 25 % | point 75 % | mean rank | runs |"
    psan = "| Psan | **1.61 ± 0.01** | **2.01 ± 0.01** | **2.81 ± 0.01** | 1.00 | 2 |"
    assert lines[2:] == [
        psan,
        "| Linear | 2.00 | 2.50 | <u>3.50</u> | 2.67 | 1 |",
        "| Mean | 8.00 | 10.00 | 14.00 | 3.67 | 1 |",
        "| New\\_method | <u>1.81 ± 0.01</u> | <u>2.26 ± 0.01</u> | failed | 2.00 | 2 |",
    ]


def test_differences_to_linear_interpolation_are_in_per_cent(experiment: Path) -> None:
    lines = difference_table(read_results(experiment), "streets").splitlines()
    assert lines[0] == "| method | block | point 25 % | point 75 % |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| Psan", "| New\\_method", "| Mean"]
    assert lines[4] == "| Mean | +300.0 | +300.0 | +300.0 |"
    assert lines[2].startswith("| Psan | −19.5 |")


def test_the_dagger_is_explained_with_the_window(experiment: Path) -> None:
    assert footnote(read_results(experiment)) == ""
    key = str(row("linear", 0.25, None, "roads")["key"])
    config = cell_folder(experiment, key) / "config.yaml"
    config.write_text("model:\n  in_sample: true\n")
    text = report(experiment, figures="none")
    assert "| Linear † | closed form |" in text
    assert "they also see visible readings outside the 24-step window that the learned" in text


def test_the_table_of_errors_is_printed_alone(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["experiment=small", f"results_dir={experiment.parent}", "table=mae"])
    printed = capsys.readouterr().out
    for dataset in ("roads", "streets"):
        caption = f"Slice of {dataset.upper()}: the last 30 % of the period"
        table = score_table(read_results(experiment), dataset, "window_mae")
        assert f"MAE in mph, **window** convention. {caption}.\n\n{table}\n" in printed
    assert not (experiment / "report.md").exists()


def only(change: Callable[[dict[str, object]], dict[str, object]]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        write_cell(folder, change(row("psan", 0.25, 42, "roads")), artifacts=False)
        assemble(folder)

    return build


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda folder: folder.mkdir(), "No runs yet"),
        (only(lambda cell: cell), "| Psan | 2.00 | 1.00 | 1 |"),
        (only(lambda cell: cell | {"rate": None, "pattern": "block"}), "| Psan | 2.00 |"),
        (
            only(lambda cell: {k: cell[k] for k in cell if "_m" not in k or k == "mask_seed"}
                 | {"status": "out_of_memory", "reason": "CUDA out of memory"}),
            "No run on `roads` has a score.",
        ),
        (
            only(lambda cell: cell | {"simulated": True, "title": "Two freeways"}),
            "All readings are simulated.",
        ),
    ],
    ids=["empty", "one run", "one pattern", "only failed", "simulated"],
)  # fmt: skip
def test_small_experiments_have_a_report(
    tmp_path: Path, build: Callable[[Path], None], words: str
) -> None:
    build(tmp_path / "tiny")
    text = report(tmp_path / "tiny")
    assert words in text
    assert "nan" not in text.lower().split()


def test_a_new_figure_appears_by_itself(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    monkeypatch.setitem(FIGURES, "rate_curve", FIGURES["rate_curve"])
    before = dict(FIGURES)

    @figure("blank", "Nothing at all")
    def blank(results: object):
        yield Drawing("", Figure(), "There is nothing to be seen.")

    try:
        text = report(experiment, figures="blank")
    finally:
        FIGURES.clear()
        FIGURES.update(before)
    assert "### Nothing at all" in text
    assert "![Nothing at all: blank](figures/blank.png)" in text
    assert "rate_curve" not in text


def test_every_module_of_the_figures_is_imported_with_them() -> None:
    folder = Path(figures.__file__).parent
    decorated = {path.stem for path in folder.glob("*.py") if "\n@figure(" in path.read_text()}
    imported = {registered.maker.__module__.rpartition(".")[2] for registered in FIGURES.values()}
    assert decorated == imported
    names = ["rate_curve", "breakdowns", "patterns", "examples", "learning_curves"]
    assert list(FIGURES) == names


def test_figures_of_an_earlier_report_go_when_all_are_drawn(experiment: Path) -> None:
    for path in experiment.glob("cells/*/*"):  # leaves the rate curve alone, to save time
        if path.name in ("example.npz", "history.csv", "scores.csv"):
            path.unlink()
    shutil.rmtree(experiment / "masks")
    folder = experiment / "figures"
    folder.mkdir()
    for name in ("examples_bridges_block.png", "examples_bridges_block.svg", "notes.txt"):
        (folder / name).touch()
    report(experiment, figures="rate_curve")
    assert (folder / "examples_bridges_block.png").exists()
    report(experiment)
    left = {path.name for path in folder.iterdir()}
    assert left == {"rate_curve.png", "rate_curve.svg", "notes.txt"}


def test_a_method_is_chosen_by_its_file() -> None:
    assert model_choice("pypots_csdi") == "pypots/csdi"
    assert model_choice("spin_h") == "spin_h"
    assert model_choice("my_own") == "my_own"


def test_notes_are_part_of_the_report(experiment: Path) -> None:
    assert "## Reading" not in report(experiment, figures="none")
    (experiment / "notes.md").write_text("PSAN is *first*.\n")
    assert "## Reading\n\nPSAN is *first*.\n\n## Scores" in report(experiment, figures="none")


def test_no_figure_is_drawn_where_none_is_asked_for(experiment: Path) -> None:
    assert "None were asked for." in report(experiment, figures="none")
    assert not (experiment / "figures").exists()


def test_an_example_is_drawn_for_one_method_and_leaves_pyplot_alone(experiment: Path) -> None:
    cell = row("psan", 0.25, 42, "roads")
    drawn = example_figure(cell_folder(experiment, str(cell["key"])) / "example.npz", cell)
    assert len(drawn.axes) == 4
    assert drawn.axes[0].get_ylabel() == "mph"
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("example.npz", b"PK\x03\x04", "examples"),
        ("history.csv", b"epoch\n1\n", "learning_curves"),
        ("scores.csv", b"by,group\nhour,1\n", "breakdowns"),
    ],
)
def test_a_damaged_file_is_named(experiment: Path, name: str, content: bytes, shown: str) -> None:
    key = str(row("psan", 0.25, 42, "roads")["key"])
    (cell_folder(experiment, key) / name).write_bytes(content)
    with pytest.raises(InputError, match="is damaged") as caught:
        report(experiment, figures=shown)
    assert key in str(caught.value)


def test_a_damaged_mask_is_named(experiment: Path) -> None:
    of = masked("roads")
    path = mask_path(experiment, "roads", of.series.fingerprint, of.mask_hash)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=f"{path.name} is damaged"):
        report(experiment, figures="patterns")


def test_text_is_shown_as_it_is() -> None:
    assert escape("a|b_c*\n<d>") == "a\\|b\\_c\\* &lt;d&gt;"


def test_methods_have_looks_of_their_own() -> None:
    names = [*style.KNOWN, *(f"method_{i}" for i in range(12))]
    looks = style.looks(names)
    assert len(set(looks.values())) == len(names)
    assert style.looks(["psan"])["psan"] == looks["psan"]


@pytest.mark.parametrize(
    ("low", "high"), [(2.38, 2.41), (1.8, 8.2), (0.01, 900.0), (12.0, 13.0), (9.0, 11.0)]
)
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = style.log_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)


def test_costs_are_not_overwritten_by_a_report_of_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "speed.csv").write_text("case\n")
    with pytest.raises(SystemExit) as stopped:
        main(["experiment=speed", f"results_dir={tmp_path}"])
    assert stopped.value.code == 2
    assert "benchmarks.speed again=none" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "speed").iterdir()] == ["speed.csv"]
