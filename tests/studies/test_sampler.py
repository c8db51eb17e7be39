"""The trial-seeded sampler: Optuna's contract, and exact repetition."""

from __future__ import annotations

import pickle
from functools import partial

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import (
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import TrialState

from hpolab import (
    Objective,
    SearchSpace,
    StepwiseSampler,
    TrialSeededSampler,
    make_sampler,
    make_study,
    run,
)

WRAPPED = {
    "random": RandomSampler,
    "tpe": TPESampler,
    "tpe_multivariate": partial(TPESampler, multivariate=True),
    "tpe_group": partial(TPESampler, multivariate=True, group=True),
    "cmaes": CmaEsSampler,
    "gp": partial(GPSampler, n_startup_trials=3),
    "nsga2": partial(NSGAIISampler, population_size=4),
    "stepwise": StepwiseSampler,
    "auto": "auto",
    "stepwise_stages": partial(StepwiseSampler, stages=[("x", 4, "grid"), (("y", "z"), 4)]),
}


class _Seeded:
    """Gives Optuna's suites our sampler; each call of the fixture's value makes a new one."""

    factory: object

    @pytest.fixture
    def sampler(self):
        return lambda: TrialSeededSampler(self.factory, seed=0)


# The quick set has the default sampler, one of a population, one whose state is stored with trials,
# and our own; the other wrapped samplers differ from one of these by a setting or keep no state.


@pytest.mark.long
class TestRandom(_Seeded, BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    factory = RandomSampler


class TestTPE(_Seeded, BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    factory = partial(TPESampler, n_startup_trials=0)


@pytest.mark.long
class TestTPEMultivariate(_Seeded, BasicSamplerTestCase, RelativeSamplerTestCase):
    factory = partial(TPESampler, n_startup_trials=0, multivariate=True)


class TestCmaEs(_Seeded, BasicSamplerTestCase, RelativeSamplerTestCase):
    factory = partial(CmaEsSampler, n_startup_trials=0, warn_independent_sampling=False)


class TestNSGAII(_Seeded, BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    factory = partial(NSGAIISampler, population_size=2)


class TestStepwise(
    _Seeded, BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
):
    factory = StepwiseSampler


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.stages. of .StepwiseSampler.")
class TestStepwiseStages(
    _Seeded, BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
):
    factory = partial(StepwiseSampler, stages=[("x", 2, "bisect"), ("y", 2, "grid"), ("x", 3)])


@pytest.mark.long
class TestQMC(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: make_sampler("qmc", seed=0)


@pytest.mark.long
class TestGP(_Seeded, BasicSamplerTestCase, RelativeSamplerTestCase):
    factory = partial(GPSampler, n_startup_trials=0, warn_independent_sampling=False)


@pytest.mark.long
class TestAuto(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: make_sampler("auto", seed=0)


def quadratic(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    y = trial.suggest_float("y", 1e-3, 1, log=True)
    z = trial.suggest_int("z", 1, 5)
    return x**2 + y + z


def params(study: optuna.Study) -> list[dict[str, object]]:
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", WRAPPED)
def test_study_stopped_and_resumed_repeats_the_uninterrupted_one(name, tmp_path):
    whole = make_study("s", storage="memory://", sampler=WRAPPED[name], seed=1)
    run(whole, quadratic, n_trials=12)
    url = f"sqlite:///{tmp_path}/s.db"
    for n_trials in (1, 5, 6, 12):
        resumed = make_study("s", storage=url, sampler=WRAPPED[name], seed=1)
        run(resumed, quadratic, n_trials=n_trials)
    assert params(resumed) == params(whole)


@pytest.mark.parametrize("name", WRAPPED)
def test_trial_requeued_half_way_through_its_suggestions_draws_the_rest_as_before(name):
    whole = make_study("s", storage="memory://", sampler=WRAPPED[name], seed=1)
    run(whole, quadratic, n_trials=8)

    def killed(trial: optuna.Trial) -> float:
        trial.suggest_float("x", -1, 1)
        raise KeyboardInterrupt

    study = make_study("s", storage="memory://", sampler=WRAPPED[name], seed=1)
    for n_done in range(8):
        if n_done:
            run(study, quadratic, n_trials=n_done)
        with pytest.raises(KeyboardInterrupt):
            run(study, killed, n_trials=n_done + 1)
        assert study.trials[n_done].state == TrialState.WAITING
    run(study, quadratic, n_trials=8)
    assert params(study) == params(whole)


def test_brute_force_resumed_repeats_the_uninterrupted_one():
    def grid(trial: optuna.Trial) -> float:
        return trial.suggest_int("a", 0, 2) + trial.suggest_int("b", 0, 2)

    whole = make_study("s", storage="memory://", sampler=BruteForceSampler, seed=1)
    run(whole, grid, n_trials=20)
    assert len(whole.trials) == 9
    study = make_study("s", storage="memory://", sampler=BruteForceSampler, seed=1)
    for n_trials in (2, 5, 20):
        run(study, grid, n_trials=n_trials)
    assert params(study) == params(whole)


SPACE = SearchSpace(
    {"x": (-1.0, 1.0), "y": FloatDistribution(1e-3, 1, log=True), "z": (1, 3)},
    defaults={"x": 0.5},  # no point of the grid
)


class Quadratic(Objective):
    def train(self, params, reporter):
        return params["x"] ** 2 + params["y"] + params["z"]


@pytest.mark.parametrize("sampler", ["qmc", "grid"])
def test_sequence_stopped_or_killed_goes_on_with_the_next_point(sampler, tmp_path):
    objective = Quadratic(search_space=SPACE, direction="minimize", max_steps=1)
    whole = make_study("s", storage="memory://", sampler=sampler, search_space=SPACE)
    run(whole, objective, n_trials=20)

    class Killed(Quadratic):
        def train(self, params, reporter):
            raise KeyboardInterrupt

    killed = Killed(search_space=SPACE, direction="minimize", max_steps=1)
    url = f"sqlite:///{tmp_path}/s.db"
    for n_trials in (1, 2, 5, 19, 20):
        study = make_study("s", storage=url, sampler=sampler, search_space=SPACE)
        with pytest.raises(KeyboardInterrupt):
            run(study, killed, n_trials=n_trials)
        run(study, objective, n_trials=n_trials)
    assert params(study) == params(whole)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 20


def test_workers_of_qmc_take_different_points():
    study = make_study("s", storage="memory://", sampler="qmc")
    run(study, quadratic, n_trials=4)
    trials = [study.ask() for _ in range(4)]  # all running at once
    assert len({quadratic(trial) for trial in trials}) == 4


def test_seeds_give_different_studies():
    def first(seed: int) -> dict[str, object]:
        study = make_study("s", storage="memory://", sampler="random", seed=seed)
        run(study, quadratic, n_trials=1)
        return study.trials[0].params

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_sampler_pickles():
    sampler = pickle.loads(pickle.dumps(TrialSeededSampler(TPESampler, seed=3)))
    study = optuna.create_study(sampler=sampler)
    study.optimize(quadratic, n_trials=2)
    assert str(sampler) == "TrialSeededSampler(TPESampler, seed=3)"


def test_threads_of_study_optimize_share_it():
    study = make_study("s", storage="memory://", sampler="tpe")
    study.optimize(quadratic, n_trials=20, n_jobs=4)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 20
