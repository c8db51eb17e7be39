"""Foreign runs as a study: what each cell becomes, twice is once, and who can read it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import optuna
import pandas
import polars
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from typer.testing import CliRunner

from hpolab import (
    DataNotFound,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    import_runs,
    influence,
    load_study,
    make_study,
    recommend,
    terminal_report,
)
from hpolab.cli import app
from hpolab.studies.imported import IMPORT_KEY, RUN_KEY, imported_baseline
from hpolab.studies.trials import METRICS_KEY

RUNS = [
    {"run": "a", "lr": "1e-4", "layers": "2", "optimizer": "adam", "acc": "0.91", "host": "x"},
    {"run": "b", "lr": "5e-3", "layers": "3", "optimizer": "sgd", "acc": "0.94", "host": "y"},
    {"run": "c", "lr": "", "layers": "NA", "optimizer": "adam", "acc": "0.92", "host": ""},
    {"run": "d", "lr": "1e-3", "layers": "2", "optimizer": "adam", "acc": "", "host": "x"},
]
DEFAULTS = {"study_name": "foreign", "value": "acc", "direction": "maximize", "metrics": ["host"]}

WANDB = """Name,State,Runtime,config.lr,config._wandb,config.model.depth,summary.acc,_step
brave-fox-1,finished,61,0.001,x,4,0.90,10
calm-sea-2,crashed,12,0.01,x,6,0.31,2
odd-owl-3,running,5,0.003,x,5,0.5,1
tiny-bee-4,finished,60,0.002,x,5,,10
"""


def write_csv(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(text)
    return path


def as_csv(rows: list[dict]) -> str:
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])


def params_of(study: optuna.Study) -> list[dict]:
    return [trial.params for trial in study.trials]


PARAMS = [
    {"lr": 1e-4, "layers": 2, "optimizer": "adam"},
    {"lr": 5e-3, "layers": 3, "optimizer": "sgd"},
    {"optimizer": "adam"},
    {"lr": 1e-3, "layers": 2, "optimizer": "adam"},
]


@pytest.mark.parametrize("kind", ["dicts", "csv", "semicolons", "pandas", "polars"])
def test_every_source_gives_the_same_trials(kind, tmp_path):
    csv = write_csv(tmp_path, as_csv(RUNS))
    source = {
        "dicts": lambda: RUNS,
        "csv": lambda: csv,
        "semicolons": lambda: write_csv(tmp_path, as_csv(RUNS).replace(",", ";")),
        "pandas": lambda: pandas.read_csv(csv),
        "polars": lambda: polars.read_csv(csv, null_values=["NA"]),
    }[kind]()
    study = import_runs(source, **DEFAULTS)
    assert params_of(study) == PARAMS
    assert [type(t.params.get("layers", 0)) for t in study.trials] == [int] * 4
    assert [t.value for t in study.trials] == [0.91, 0.94, 0.92, None]


def test_column_gives_one_range_of_its_kind_to_all_trials():
    distributions = import_runs(RUNS, **DEFAULTS).trials[1].distributions
    assert distributions == {
        "lr": FloatDistribution(1e-4, 5e-3, log=True),
        "layers": IntDistribution(2, 3),
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
    }


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1e-5", "1e-4"], FloatDistribution(1e-5, 1e-4, log=True)),
        (["0.0004", "0.0006"], FloatDistribution(0.0004, 0.0006)),
        (["0", "0.5"], FloatDistribution(0.0, 0.5)),
        (["-1", "3"], IntDistribution(-1, 3)),
        (["16", "512"], IntDistribution(16, 512, log=True)),
        (["true", "False"], CategoricalDistribution([True, False])),
        (["3", "auto"], CategoricalDistribution(["3", "auto"])),
        ([2.0, float("nan"), 4.0], IntDistribution(2, 4)),
        ([2.0, 4.0], FloatDistribution(2.0, 4.0)),
    ],
)
def test_kind_and_scale_of_a_range(cells, expected):
    rows = [{"x": cell, "acc": 0.5} for cell in cells]
    study = import_runs(rows, study_name="foreign", value="acc", direction="maximize")
    assert study.trials[0].distributions == {"x": expected}


def test_range_may_be_given():
    study = import_runs(RUNS, **DEFAULTS, params={"lr": (0.0, 1.0), "layers": None})
    assert study.trials[0].distributions == {
        "lr": FloatDistribution(0.0, 1.0),
        "layers": IntDistribution(2, 3),
    }
    assert study.trials[0].user_attrs["optimizer"] == "adam"


def test_run_without_a_value_is_a_failed_trial_that_says_why():
    study = import_runs(RUNS, **DEFAULTS)
    failed = study.trials[3]
    assert failed.state == TrialState.FAIL
    assert "no finite 'acc'" in failed.user_attrs["hpolab:error"]
    assert study.user_attrs[IMPORT_KEY]["n_complete"] == 3
    assert study.user_attrs[IMPORT_KEY]["n_failed"] == 1


def test_other_columns_and_the_id_are_kept():
    attrs = import_runs(RUNS, **DEFAULTS).trials[0].user_attrs
    assert (attrs["host"], attrs["run"], attrs[RUN_KEY]) == ("x", "a", "a")


def test_numbers_of_the_metrics_are_metrics_of_the_trial():
    rows = [{"lr": 0.1, "acc": 0.9, "f1": "0.8", "host": "x"}, {"lr": 0.2, "acc": 0.7, "f1": ""}]
    study = import_runs(rows, **{**DEFAULTS, "metrics": ["f1", "host"]})
    assert study.trials[0].user_attrs[METRICS_KEY] == {"f1": 0.8}
    assert METRICS_KEY not in study.trials[1].user_attrs
    assert study.trials[0].user_attrs["host"] == "x"


def test_wandb_export_knows_config_and_state(tmp_path):
    source = write_csv(tmp_path, WANDB)
    study = import_runs(source, study_name="sweep", value="summary.acc", direction="maximize")
    assert params_of(study) == [
        {"lr": 0.001, "model.depth": 4},
        {"lr": 0.01, "model.depth": 6},
        {"lr": 0.002, "model.depth": 5},
    ]
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    assert study.trials[1].user_attrs["hpolab:error"] == "the run crashed"
    assert study.user_attrs[IMPORT_KEY]["n_left_out"] == 1


def test_config_before_a_parameter_may_be_left_out(tmp_path):
    study = import_runs(
        write_csv(tmp_path, WANDB),
        study_name="sweep",
        value="summary.acc",
        direction="maximize",
        params=["lr"],
    )
    assert study.trials[0].params == {"lr": 0.001}


def test_nested_config_of_an_api_is_flattened():
    runs = [{"id": n, "config": {"lr": n / 10}, "summary": {"acc": n}} for n in (1, 2)]
    study = import_runs(runs, study_name="api", value="summary.acc", direction="maximize")
    assert params_of(study) == [{"lr": 0.1}, {"lr": 0.2}]


def test_rows_of_a_run_are_its_steps():
    rows = [
        {"run": run, "epoch": epoch, "lr": lr, "acc": lr + epoch}
        for run, lr in (("a", 0.25), ("b", 0.5))
        for epoch in (2, 1)
    ]
    study = import_runs(rows, study_name="curves", value="acc", direction="maximize", steps="epoch")
    assert [trial.intermediate_values for trial in study.trials] == [
        {1: 1.25, 2: 2.25},
        {1: 1.5, 2: 2.5},
    ]
    assert study.best_value == 2.5


@pytest.mark.parametrize("again", [RUNS, RUNS[:2], list(reversed(RUNS))])
def test_imported_twice_is_imported_once(again):
    storage = InMemoryStorage()
    import_runs(RUNS, **DEFAULTS, storage=storage)
    study = import_runs(again, **DEFAULTS, storage=storage)
    assert params_of(study) == PARAMS


def test_runs_without_ids_are_known_by_their_cells():
    storage = InMemoryStorage()
    rows = [{"lr": 0.1, "acc": 0.5}, {"lr": 0.1, "acc": 0.5}, {"lr": 0.2, "acc": 0.6}]
    for _ in range(2):
        study = import_runs(
            rows, study_name="x", value="acc", direction="maximize", params=["lr"], storage=storage
        )
    assert len(study.trials) == 3


def test_new_runs_are_added_to_those_of_the_last_import(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    import_runs(RUNS, **DEFAULTS, storage=url, baseline="a")
    new = {"run": "e", "lr": "0.002", "acc": "0.95", "optimizer": "sgd"}
    import_runs([*RUNS, new], **DEFAULTS, storage=url)
    study = load_study("foreign", storage=url)
    assert study.best_trial.params == {"lr": 0.002, "optimizer": "sgd"}
    assert imported_baseline(study).number == 0
    assert study.user_attrs[IMPORT_KEY]["n_complete"] == 4


@pytest.mark.parametrize(
    ("again", "message"),
    [
        ([RUNS[0] | {"acc": "0.7"}, RUNS[1]], "got run 'a'"),
        ([*RUNS, RUNS[0] | {"run": "e", "lr": "1"}], "'e' does not"),
        ([*RUNS, RUNS[0] | {"run": "e", "optimizer": "lion"}], "'e' does not"),
    ],
)
def test_changed_runs_and_left_ranges_are_refused_and_nothing_is_written(again, message):
    storage = InMemoryStorage()
    study = import_runs(RUNS, **DEFAULTS, storage=storage)
    with pytest.raises(InvalidArgument, match=message):
        import_runs(again, **DEFAULTS, storage=storage)
    assert params_of(study) == PARAMS


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"value": "ac"}, InvalidArgument, "`value` must be one of .* Did you mean 'acc'"),
        ({"params": ["lrr"]}, InvalidArgument, "`params` must be one of .* got 'lrr'"),
        ({"params": []}, InvalidArgument, "`params` must name a column"),
        ({"params": "lr"}, InvalidType, "must be lists"),
        ({"metrics": ["hots"]}, InvalidArgument, "`metrics` must be one of"),
        ({"run_id": "id"}, InvalidArgument, "`run_id` must be one of"),
        ({"run_id": "lr"}, InvalidArgument, "`run_id` must name each run, got none"),
        ({"run_id": "optimizer"}, InvalidArgument, "got 'adam' twice"),
        ({"value": "host"}, InvalidArgument, "must be a column of numbers, got 'x'"),
        ({"baseline": "z"}, InvalidArgument, "`baseline` must be one of"),
        ({"baseline": "d"}, InvalidArgument, "`baseline` must be a run with a value"),
        ({"direction": "up"}, InvalidArgument, "`direction`"),
        ({"source": []}, InvalidArgument, "a row at least"),
        ({"source": 3}, InvalidType, "got int"),
        ({"source": "none.csv"}, DataNotFound, "which does not exist"),
        ({"params": {"lr": (0.1, 0.2)}}, InvalidArgument, "run 'a' does not"),
    ],
)
def test_bad_input_is_refused_before_a_study_is_made(changes, error, message):
    storage = InMemoryStorage()
    arguments = {"source": RUNS, **DEFAULTS, "storage": storage, **changes}
    if changes.get("value") == "host":
        arguments["metrics"] = []
    with pytest.raises(error, match=message):
        import_runs(arguments.pop("source"), **arguments)
    assert optuna.get_all_study_names(storage) == []


def test_study_that_was_not_imported_is_left_alone():
    storage = InMemoryStorage()
    study = make_study("foreign", storage=storage)
    study.optimize(lambda trial: 0.0, n_trials=1)
    with pytest.raises(RecipeMismatch, match="was not imported"):
        import_runs(RUNS, **DEFAULTS, storage=storage)
    assert len(study.trials) == 1


def test_command_line_reads_imported_runs(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    import_runs(RUNS, **DEFAULTS, storage=url)
    invoke = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).invoke
    assert "foreign" in invoke(app, ["status", "-s", url]).output
    shown = invoke(app, ["best", "foreign", "-s", url, "-f", "json"]).output
    assert json.loads(shown) == {"lr": 0.005, "layers": 3, "optimizer": "sgd"}


@pytest.mark.parametrize(
    "plot", ["plot_param_importances", "plot_slice", "plot_contour", "plot_optimization_history"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_optuna_draws_imported_runs(plot):
    study = import_runs(RUNS, **DEFAULTS)
    assert getattr(optuna.visualization, plot)(study).data


def test_imported_study_goes_on():
    study = import_runs(RUNS, **DEFAULTS)
    study.optimize(lambda trial: trial.suggest_float("lr", 1e-5, 1e-2, log=True), n_trials=2)
    assert len(study.trials) == 6


# The published detection sweep: mean h over seven configurations, missing cells and all.
SWEEP = """run,lr,weight_decay,T_max,eta_min,epochs_run,h_mean
baseline,0.0004,0.0001,22,0.00001,22,96.53
8,0.0005134333170096499,6.797303101020006e-05,24,6.388390006720873e-06,10,96.60
3,0.0003845588887231477,0.00013939498132089153,22,1.8596851896215065e-05,22,96.47
4,0.000396,0.000080,22,1.93e-05,,96.31
2,0.000411,0.000123,22,1.88e-05,,96.29
7,0.000592,0.000066,24,6.38e-06,,96.29
10,0.000480,0.000098,,,,96.20
9,,0.000106,,,,96.03
5,,,24,,,95.64
"""

# The published recommender runs; what all runs share is left out.
RECOMMENDER = """run,optimizer,epochs,learning_rate,embed_dim,l2_reg_embedding,ndcg,hit_rate
1,adam,5,0.0001,16,1e-5,0.66172,0.63026
2,adam_amsgrad,5,0.0001,16,1e-5,0.66164,0.63027
3,adamw,5,0.0001,16,1e-5,0.66159,0.62996
4,adamax,5,0.0001,16,1e-5,0.64647,0.62153
5,nadam,5,0.0001,16,1e-5,0.66218,0.63056
6,sgd,5,0.0001,16,1e-5,0.55241,0.56786
7,rmsprop,5,0.0001,16,1e-5,0.54495,0.56434
8,adadelta,5,0.0001,16,1e-5,0.56492,0.5742
9,adafactor,5,0.0001,16,1e-5,0.58743,0.58552
10,nadam,10,0.0001,16,1e-5,0.66151,0.63036
11,nadam,20,0.0001,16,1e-5,0.66167,0.63023
12,nadam,5,0.001,16,1e-5,0.66255,0.63061
13,nadam,5,0.01,16,1e-5,0.67102,0.63600
14,nadam,5,0.1,16,1e-5,0.55717,0.57051
15,nadam,10,0.01,16,1e-5,0.67087,0.63054
16,nadam,10,0.01,16,1e-5,0.67101,0.63615
17,nadam,10,0.01,32,1e-4,0.67089,0.63522
"""


@pytest.fixture(
    params=[
        "copied",
        pytest.param(
            "published",
            marks=pytest.mark.skipif(
                not os.environ.get("HPOLAB_DATA"),
                reason="the published tables are read from $HPOLAB_DATA, which is not set",
            ),
        ),
    ]
)
def seed_table(request, tmp_path):
    """Gives the path of a seed table by its name: a copy, and the published file where it is."""

    def path_of(name: str) -> Path:
        if request.param == "published":
            return Path(os.environ["HPOLAB_DATA"]) / "seeds" / name
        text = {"detection_sweep.csv": SWEEP, "recommender_runs.csv": RECOMMENDER}[name]
        return write_csv(tmp_path, text)

    return path_of


@pytest.fixture
def sweep(seed_table):
    return import_runs(
        seed_table("detection_sweep.csv"),
        study_name="detection",
        value="h_mean",
        direction="maximize",
        params=["lr", "weight_decay", "T_max", "eta_min"],
        run_id="run",
        baseline="baseline",
        metrics=["epochs_run"],
    )


def test_detection_sweep_has_its_winner_and_its_improvement(sweep):
    best = recommend(sweep).best
    assert best.run == "8"
    assert best.improvement == pytest.approx(0.07)
    assert "+0.1, is within the noise of one run each" in best.risk


@pytest.mark.parametrize(
    ("parameter", "edges", "means"),
    [
        ("lr", [0.00048], {"< 0.00048": 96.40, ">= 0.00048": 96.36}),
        ("weight_decay", [9e-5], {"< 9e-05": 96.40, ">= 9e-05": 96.30}),
        ("T_max", None, {"22": 96.40, "24": 96.18}),
    ],
)
def test_detection_sweep_has_its_means_by_group(sweep, parameter, edges, means):
    found = influence(sweep, bins={parameter: edges})[parameter]
    assert {group.label: round(group.mean, 2) for group in found.groups} == means
    assert not found.is_significant


def test_detection_sweep_says_that_nothing_is_significant(sweep):
    found = influence(sweep, bins={"lr": [0.00048], "weight_decay": [9e-5]})
    assert found.verdict[-1] == "No effect of a parameter is significant at one run each."
    assert "9 complete trials, too few for importances." in found.verdict


@pytest.mark.parametrize(("value", "run"), [("ndcg", "13"), ("hit_rate", "16")])
def test_recommender_runs_have_their_best(seed_table, value, run):
    study = import_runs(
        seed_table("recommender_runs.csv"),
        study_name="recommender",
        value=value,
        direction="maximize",
        params=["optimizer", "epochs", "learning_rate", "embed_dim", "l2_reg_embedding"],
        baseline=1,
    )
    best = recommend(study).best
    assert best.run == run
    assert (best.params["optimizer"], best.params["learning_rate"]) == ("nadam", 0.01)


UNNAMED_RUNS = [{"lr": 10.0**-i, "accuracy": score} for i, score in ((1, 0.5), (2, 0.9), (3, 0.7))]


def unnamed(rows, **settings):
    return import_runs(
        rows, study_name="unnamed", value="accuracy", direction="maximize", **settings
    )


def test_runs_that_no_column_names_are_called_by_their_row():
    study = unnamed(UNNAMED_RUNS, baseline=1)
    text = terminal_report(study)
    assert "Best accuracy 0.9 with row 2, 0.5 with the baseline" in " ".join(text.split())
    assert study.trials[1].user_attrs[RUN_KEY] not in text
    assert recommend(study).best.run == "row 2"
    assert "1 (row 2)" in str(recommend(study))


def test_row_of_a_baseline_must_be_in_the_table():
    with pytest.raises(InvalidArgument, match=r"`baseline` must be .*'1'.*'3'.* got '4'"):
        unnamed(UNNAMED_RUNS, baseline=4)


def test_error_in_a_table_without_names_says_its_row():
    rows = [*UNNAMED_RUNS, {"lr": 0.2, "accuracy": "high"}]
    with pytest.raises(InvalidArgument, match=r"got 'high' in 'accuracy' of row 4"):
        unnamed(rows)


def test_rows_in_another_order_are_not_called_by_two_rows(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    unnamed(UNNAMED_RUNS, storage=storage)
    newer = {"lr": 0.05, "accuracy": 0.95}
    study = unnamed([newer, *UNNAMED_RUNS], storage=storage)
    assert len(study.trials) == 4
    text = terminal_report(study)
    assert "Best accuracy 0.95 with trial 3" in text
    assert "row 1" not in text


def test_rows_added_below_keep_the_others_numbers(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    unnamed(UNNAMED_RUNS, storage=storage)
    study = unnamed([*UNNAMED_RUNS, {"lr": 0.05, "accuracy": 0.95}], storage=storage)
    assert "Best accuracy 0.95 with row 4" in terminal_report(study)
