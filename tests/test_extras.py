"""Without extras: what needs one says which, when it is asked for, and all else is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import hpolab

OPTIONAL = (
    *("cmaes", "grpc", "implicit", "jinja2", "kaleido", "lightgbm", "lightning", "mlflow"),
    *("optuna_integration", "pandas", "plotly", "polars", "psycopg", "pymysql"),
    *("pytorch_optimizer", "ray", "redis", "schedulefree", "sklearn", "tensorboard"),
    *("tensorboardX", "threadpoolctl", "torch", "wandb", "xgboost"),
)

# Public names that cannot be imported without an extra; every other one can.
NAMES = {
    "FoldModels": "lightgbm",
    "LightGBMModel": "lightgbm",
    "LightGBMObjective": "lightgbm",
    "LightGBMPruning": "lightgbm",
    "LightningPruningCallback": "lightning",
    "SklearnObjective": "sklearn",
    "TorchObjective": "torch",
    "TrainedEpoch": "torch",
    "fit_by_epochs": "sklearn",
}

SPLITS = "h.leave_last_out(h.make_taste_clusters(n_users=20, n_items=60).interactions)"
# Calls that need an extra, though the name is there without it.
CALLS = {
    "h.build_optimizer(None, {'optimizer': 'adam', 'lr': 0.1})": "torch",
    "h.build_schedule(None, {'schedule': 'cosine'}, max_epochs=3)": "torch",
    "h.influence(study).to_frame()": "frames",
    "h.Interactions.from_file('u.data')": "recommender",
    "h.load_digits()": "sklearn",
    "h.load_movielens_100k()": "recommender",
    "h.make_sampler('cmaes', seed=0)": "cmaes",
    "h.make_sampler('gp', seed=0)": "torch",
    "h.make_sampler('auto', seed=0)": "torch",
    "h.AutoSampler()": "torch",
    "h.make_study('cmaes', storage='memory://', sampler='cmaes')": "cmaes",
    "h.make_study('gp', storage='memory://', sampler=samplers.GPSampler)": "torch",
    "h.make_study('gp', storage='memory://', sampler=samplers.GPSampler(seed=0))": "torch",
    "h.TrialSeededSampler(samplers.CmaEsSampler, seed=0)": "cmaes",
    "h.open_storage('grpc://localhost:1')": "grpc",
    "h.open_storage('mysql://user@localhost/database')": "mysql",
    "h.open_storage('postgresql://user@localhost/database')": "postgres",
    "h.open_storage('redis://localhost/0')": "redis",
    "h.open_storage('unix:///redis.sock')": "redis",
    f"h.RecommenderObjective('als', {SPLITS}, metric='ndcg@10')": "recommender",
    f"h.RecommenderObjective('mf', {SPLITS}, metric='ndcg@10')": "recommender",
    f"h.RecommenderObjective('deepfm', {SPLITS}, metric='ndcg@10')": "recommender",
    "h.run(on_disk, quadratic, n_trials=1, executor=h.RayExecutor(n_workers=1))": "ray",
    "h.trials_frame(study)": "frames",
    "h.write_images(study, 'images')": "images",
    "h.write_report(study, 'report.html')": "report",
}

# Calls that must work with the core alone.
CORE = [
    "h.as_yaml(study.best_params)",
    "h.check_storage('sqlite:///study.db')",
    "h.data_fingerprint([1, 2, 3])",
    "h.estimator_space('SVC')",
    "h.influence(study)",
    "h.lightgbm_space()",
    "h.make_study('grid', storage='memory://', sampler='grid', search_space={'x': (0.0, 1.0)})",
    "h.make_study('journal', storage='journal:///study.log')",
    "h.optimizer_space([*h.OPTIMIZERS, *h.EXTRA_OPTIMIZERS])",
    "h.recommend(study)",
    f"h.RecommenderObjective('ease', {SPLITS}, metric='ndcg@10')",
    "h.recommender_space('deepfm')",
    "h.run(on_disk, quadratic, n_trials=3)",
    "h.schedule_space('cosine', max_epochs=3)",
    "h.terminal_report(study)",
]

PROGRAM = """
import json, sys
from importlib.machinery import PathFinder

names, calls, hidden = map(json.loads, sys.argv[1:])

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in hidden:
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without

import hpolab as h
from optuna import samplers

def quadratic(trial):
    return trial.suggest_float("x", -1, 1) ** 2

study = h.make_study("study", storage="memory://", direction="minimize", seed=0)
h.run(study, quadratic, n_trials=20)
on_disk = h.make_study("disk", storage="sqlite:///study.db", direction="minimize", seed=0)

def outcome(ask):
    try:
        ask()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "there"

found = {name: outcome(lambda: getattr(h, name)) for name in names}
found |= {call: outcome(lambda: eval(call)) for call in calls}
sys.stderr.flush()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each name and each call brings in a process without any optional package."""
    arguments = [json.dumps(each) for each in (hpolab.__all__, [*CALLS, *CORE], OPTIONAL)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("without-extras"),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", hpolab.__all__)
def test_a_name_is_there_without_extras_or_says_which_it_needs(found, name):
    if name in NAMES:
        assert found[name].startswith(f"MissingExtra: `{name}` needs ")
        assert f"pip install 'hpolab[{NAMES[name]}]'" in found[name]
    else:
        assert found[name] == "there"


@pytest.mark.parametrize(("call", "extra"), CALLS.items())
def test_a_call_that_needs_an_extra_says_which(found, call, extra):
    assert found[call].startswith("MissingExtra: ")
    assert f"pip install 'hpolab[{extra}]'" in found[call]


@pytest.mark.parametrize("call", CORE)
def test_what_the_core_promises_works_without_extras(found, call):
    assert found[call] == "there"
