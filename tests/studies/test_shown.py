"""What samplers see of a long study: a bounded set that depends on what has finished alone."""

from __future__ import annotations

import random
from functools import partial

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import TrialState, create_trial

from hpolab import StepwiseSampler, TrialSeededSampler, _optuna, make_study, run
from hpolab.studies import shown
from hpolab.studies.shown import Rule, first_shown, shown_to

SPACE = {
    "x": FloatDistribution(-1, 1),
    "y": FloatDistribution(1e-3, 1, log=True),
    "kind": CategoricalDistribution(["a", "b"]),
}
SAMPLERS = {
    "tpe": TPESampler,
    "tpe_independent": partial(TPESampler, multivariate=False),
    "tpe_group": partial(TPESampler, multivariate=True, group=True),
    "gp": GPSampler,
    "cmaes": partial(CmaEsSampler, warn_independent_sampling=False),
    "nsga2": partial(NSGAIISampler, population_size=10),
    "stepwise": StepwiseSampler,
}


def finished(number, *, n_values=1, states=("complete", "pruned", "failed", "infeasible")):
    """Return a trial of a study that has all kinds of them, and many equal values."""
    rng = random.Random(number)
    params = {
        name: RandomSampler(seed=number).sample_independent(None, None, name, distribution)
        for name, distribution in SPACE.items()
    }
    kind = rng.choice(states)
    state = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}.get(kind, TrialState.COMPLETE)
    values = [round(rng.random(), 2) for _ in range(n_values)]
    trial = create_trial(
        state=state,
        params=params,
        distributions=SPACE,
        values=values if state == TrialState.COMPLETE else None,
        intermediate_values={s: rng.random() for s in range(rng.randrange(4))},
    )
    if kind == "infeasible":
        trial.set_constraint("c", rng.random())
    return trial


def stored(n_trials, *, directions=("minimize",), sampler=None, storage=None, **kinds):
    study = optuna.create_study(directions=directions, sampler=sampler, storage=storage)
    trials = [finished(n, n_values=len(directions), **kinds) for n in range(n_trials)]
    study.add_trials(trials)
    return study


def numbers(trials):
    return [trial.number for trial in trials]


def seen(sampler, study):
    return shown_to(sampler, study).get_trials(deepcopy=False)


def readable(study):
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


@pytest.fixture
def short(monkeypatch):
    """Lower the bounds, so that a study of a hundred trials is a long one."""
    for kind, rule in {
        TPESampler: Rule(60, n_best=25),
        StepwiseSampler: Rule(60, n_best=25),
        GPSampler: Rule(40, n_best=20, spread=True, complete_only=True),
        CmaEsSampler: Rule(40, complete_only=True, attrs=("cma:",)),
    }.items():
        monkeypatch.setitem(shown._RULES, kind, rule)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(
    "states",
    [
        ("complete",),
        ("complete", "pruned"),
        ("complete", *["pruned"] * 90),
        ("infeasible",),
        ("complete", "pruned", "failed", "infeasible"),
    ],
)
def test_tpe_takes_the_same_good_ones_as_from_all(direction, states):
    study = stored(1500, directions=[direction], states=states)
    trials = seen(TPESampler(), study)
    assert len(trials) <= 1000
    assert _split_trials(study, trials, 25)[0] == _split_trials(study, readable(study), 25)[0]


def test_tpe_sees_the_latest_beside_the_good_ones():
    study = stored(1400, states=("complete",))
    trials = seen(TPESampler(), study)
    assert len(trials) == 1000
    best = _split_trials(study, readable(study), 25)[0]
    rest = [t for t in trials if t not in best]
    assert numbers(rest)[-900:] == [n for n in range(1400) if n not in numbers(best)][-900:]
    assert numbers(trials) == sorted(numbers(trials))


def test_several_objective_values_show_the_whole_pareto_front():
    study = stored(1300, directions=["minimize", "maximize"], states=("complete", "infeasible"))
    trials = seen(TPESampler(), study)
    front = {t.number for t in study.best_trials}
    assert len(front) > 1
    assert front <= set(numbers(trials))
    assert len(trials) == 1000


def test_gp_sees_the_best_and_some_of_all_times():
    study = stored(1200, states=("complete", "pruned"))
    trials = seen(GPSampler(), study)
    assert len(trials) == 500
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    by_value = sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda t: t.value)
    assert set(numbers(by_value[:200])) <= set(numbers(trials))
    rest = set(numbers(trials)) - set(numbers(by_value[:200]))
    assert max(b - a for a, b in zip(sorted(rest), sorted(rest)[1:], strict=False)) < 30


@pytest.mark.parametrize("n_trials", [0, 1, 999, 1000])
def test_up_to_the_bound_the_sampler_sees_all(n_trials):
    study = stored(n_trials, states=("complete",))
    assert numbers(seen(TPESampler(), study)) == list(range(n_trials))


def test_failed_trials_do_not_count():
    study = stored(1000, states=("complete",))
    study.add_trials([finished(n, states=("failed",)) for n in range(500)])
    assert len(seen(TPESampler(), study)) == 1500


@pytest.mark.parametrize(
    "sampler",
    [
        partial(TPESampler, gamma=lambda n: n // 4),
        partial(TPESampler, weights=lambda n: [1.0] * n),
        partial(TPESampler, n_startup_trials=1200),
        type("Mine", (TPESampler,), {}),
        NSGAIISampler,
        optuna.samplers.BruteForceSampler,
    ],
)
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::optuna.exceptions.ExperimentalWarning"
)
def test_a_sampler_that_may_need_all_trials_sees_all(sampler):
    study = stored(1100, states=("complete",))
    assert len(seen(sampler(), study)) == 1100


def test_running_trials_are_shown_as_ever():
    study = stored(1100, states=("complete",))
    running = [study.ask() for _ in range(3)]
    waiting = create_trial(state=TrialState.WAITING)
    study.add_trial(waiting)
    trials = seen(TPESampler(), study)
    assert numbers(trials)[-3:] == [trial.number for trial in running]
    assert len(trials) == 1003


def test_qmc_sees_the_first_trial_that_has_a_search_space():
    study = stored(40)
    first = readable(study)[0]
    assert numbers(first_shown(study).get_trials(deepcopy=False)) == [first.number]


def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    y = trial.suggest_float("y", 1e-3, 1, log=True)
    bonus = 0.1 if trial.suggest_categorical("kind", ["a", "b"]) == "a" else 0.0
    if bonus and trial.suggest_float("z", 0, 1) > 0.9:
        raise optuna.TrialPruned
    return x**2 + y - bonus


def params(study):
    return [trial.params for trial in study.trials]


def fill(study, n_trials):
    study.add_trials([finished(n, states=("complete", "pruned")) for n in range(n_trials)])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_long_study_stopped_and_resumed_repeats_the_uninterrupted_one(name, short, tmp_path):
    make = partial(make_study, "s", sampler=SAMPLERS[name], pruner="none", seed=1)
    whole = make(storage="memory://")
    fill(whole, 70)
    run(whole, objective, n_trials=80)
    url = f"sqlite:///{tmp_path}/s.db"
    fill(make(storage=url), 70)
    for n_trials in (71, 75, 80):
        run(make(storage=url), objective, n_trials=n_trials)
    assert params(make(storage=url)) == params(whole)


@pytest.mark.parametrize("name", SAMPLERS)
def test_order_in_which_trials_end_does_not_matter(name, short):
    """A worker that has watched them end sees the same as one that reads them all later."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    trials = [study.ask(SPACE) for _ in range(90)]
    random.Random(0).shuffle(trials)
    for n_told, trial in enumerate(trials):
        study.tell(trial, round(random.Random(trial.number).random(), 1))
        if n_told % 7 == 0:
            seen(SAMPLERS[name](), study)
    later = optuna.create_study()
    later.add_trials(study.get_trials())
    assert numbers(seen(SAMPLERS[name](), study)) == numbers(seen(SAMPLERS[name](), later))


@pytest.mark.parametrize("name", ["tpe", "gp", "stepwise"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_unbounded_wrapper_draws_what_optuna_draws_from_all(name, short):
    def drawn(bounded):
        sampler = TrialSeededSampler(SAMPLERS[name], seed=1, bounded=bounded)
        study = make_study("s", storage="memory://", sampler=sampler, pruner="none")
        fill(study, 90)
        run(study, objective, n_trials=93)
        return params(study)[90:]

    assert drawn(False) == drawn(False)
    assert drawn(False) != drawn(True)


@pytest.mark.parametrize("name", ["tpe", "tpe_independent", "cmaes", "nsga2"])
def test_search_space_is_that_of_all_trials(name):
    """Also where those that have another one are no longer shown."""
    study = optuna.create_study()
    other = {"x": FloatDistribution(-2, 2), "y": SPACE["y"]}
    study.add_trial(create_trial(params={"x": 0.0, "y": 0.1}, distributions=other, value=9.0))
    study.add_trials([finished(n, states=("complete",)) for n in range(1100)])
    sampler, own = SAMPLERS[name](), SAMPLERS[name]()
    trial = study.get_trials()[-1]
    view = shown_to(sampler, study)
    assert sampler.infer_relative_search_space(view, trial) == own.infer_relative_search_space(
        study, trial
    )


def test_cmaes_draws_what_it_draws_from_all(short):
    def drawn(bounded):
        sampler = TrialSeededSampler(SAMPLERS["cmaes"], seed=1, bounded=bounded)
        study = make_study("s", storage="memory://", sampler=sampler, pruner="none")
        run(study, lambda t: sum(t.suggest_float(n, -1, 1) ** 2 for n in "abc"), n_trials=90)
        return params(study)

    assert drawn(True) == drawn(False)


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "stepwise"])
def test_trial_that_must_not_depend_on_timing_sees_those_before_its_window_alone(name, short):
    """Trials that run at once see different ones, and ask in any order."""
    study = stored(200, states=("complete", "pruned", "failed"))
    trials, width = study.get_trials(), 8
    for first in (60, 100, 150, 192):
        together = list(range(first, first + width))
        random.Random(first).shuffle(together)
        for number in together:
            below = number - width + 1
            past = optuna.create_study()
            past.add_trials(trials[:below])
            view = _optuna._with_past_only(study, number, below)
            theirs = [t for t in seen(SAMPLERS[name](), view) if t.number != number]
            assert numbers(theirs) == numbers(seen(SAMPLERS[name](), past))


def test_work_for_a_trial_does_not_grow_with_the_study(monkeypatch):
    """Counted in trials that the bounded set takes in: each finished one, once."""
    taken_in = []
    add = shown._Bounded.add

    def counting(self, trials):
        taken_in.append(len(trials))
        add(self, trials)

    monkeypatch.setattr(shown._Bounded, "add", counting)
    study = stored(2000, states=("complete", "pruned"))
    study.sampler = TrialSeededSampler(TPESampler, seed=0)
    for _ in range(5):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", -1, 1))
    assert taken_in == [2000, 1, 1, 1, 1]
