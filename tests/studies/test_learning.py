"""Learning from earlier studies: the first configurations, what is refused, and what is trusted."""

from __future__ import annotations

import json
import logging
import math
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    SearchSpace,
    load_study,
    make_study,
    optimizer_space,
    run,
)
from hpolab.studies.lessons import rank_shares
from hpolab.studies.trust import LEARNED_KEY, learned_prior

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from hpolab import Reporter

    Loss = Callable[[float, float], float]

SPACE = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)})
RANGES = SPACE.distributions()


def valley(x: float, y: float) -> float:
    return (x - 0.2) ** 2 + (y - 0.7) ** 2


def make_source(
    name: str = "earlier",
    loss: Loss = valley,
    *,
    direction: str = "minimize",
    n_trials: int = 60,
    seed: int = 0,
    ranges: Mapping[str, Any] = RANGES,
) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(study_name=name, sampler=sampler, direction=direction)
    for _ in range(n_trials):
        trial = study.ask(dict(ranges))
        study.tell(trial, loss(trial.params["x"], trial.params["y"]))
    return study


def of_trials(trials: Sequence[optuna.trial.FrozenTrial], name: str = "earlier") -> optuna.Study:
    study = optuna.create_study(study_name=name)
    study.add_trials(trials)
    return study


def learn(*sources: optuna.Study, space: SearchSpace = SPACE, **arguments: Any) -> optuna.Study:
    return make_study(
        "new", storage="memory://", search_space=space, learn_from=sources, **arguments
    )


def first_of(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.system_attrs["fixed_params"] for trial in study.get_trials(deepcopy=False)]


def spread_of(configurations: Sequence[Mapping[str, Any]]) -> float:
    points = np.array([[each["x"], each["y"]] for each in configurations])
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return float(apart[np.triu_indices(len(points), 1)].min())


def test_a_new_study_tries_its_default_and_then_what_was_good_before() -> None:
    source = make_source()
    default, *portfolio = first_of(learn(source))
    assert default == {"x": 0.5, "y": 0.5}
    assert portfolio[0] == source.best_params
    assert len(portfolio) == 5
    losses = sorted(trial.value for trial in source.trials)
    assert all(valley(**each) <= losses[len(losses) // 3] for each in portfolio)


def test_one_earlier_study_gives_its_best_region_and_not_five_copies_of_a_point() -> None:
    copies = [
        create_trial(params={"x": 0.2 + 1e-6 * i, "y": 0.7}, distributions=RANGES, value=1e-9 * i)
        for i in range(20)
    ]
    study = learn(of_trials([*copies, *make_source().trials]))
    assert spread_of(first_of(study)[1:]) > 0.02


def test_earlier_studies_that_agree_outvote_one_that_does_not() -> None:
    alike = [make_source(f"alike{seed}", seed=seed) for seed in range(3)]
    other = make_source("other", lambda x, y: valley(1 - x, 1 - y), seed=7)
    portfolio = first_of(learn(other, *alike))[1:]
    assert portfolio[0] in [study.best_params for study in alike]
    assert sum(valley(**each) < 0.05 for each in portfolio) >= 3


def test_ranks_count_and_neither_values_nor_directions() -> None:
    source = make_source()
    turned = make_source(loss=lambda x, y: -math.exp(9 * valley(x, y)), direction="maximize")
    assert first_of(learn(turned)) == first_of(learn(source))


def test_the_portfolio_depends_on_nothing_but_the_earlier_studies() -> None:
    sources = [make_source("a"), make_source("b", seed=1)]
    assert first_of(learn(*sources, seed=3)) == first_of(learn(*sources, seed=4))


def test_failed_and_infinite_trials_teach_nothing_and_violated_constraints_come_last() -> None:
    def trial(**arguments: Any) -> optuna.trial.FrozenTrial:
        return create_trial(params={"x": 0.1, "y": 0.1}, distributions=RANGES, **arguments)

    violated = trial(value=-5.0)
    violated.set_constraint("size", 1.0)
    trials = [
        violated,
        trial(state=TrialState.PRUNED, intermediate_values={0: 0.1}),
        trial(state=TrialState.PRUNED, intermediate_values={0: 9.0, 1: 9.0}),
        trial(value=3.0),
        trial(value=1.0),
        trial(value=1.0),
        trial(value=math.inf),
        trial(state=TrialState.FAIL),
        trial(state=TrialState.RUNNING),
    ]
    known, shares = rank_shares(trials, "minimize")
    assert known == trials[:6]
    ranks = [6, 5, 4, 3, 1.5, 1.5]
    assert shares == pytest.approx([(rank - 0.5) / 6 for rank in ranks])


def test_a_parameter_that_the_earlier_study_lacks_is_at_its_default() -> None:
    space = SPACE | SearchSpace({"z": (0, 9), "kind": ["a", "b"]}, defaults={"z": 3})
    portfolio = first_of(learn(make_source(), space=space))[1:]
    assert all((each["z"], each["kind"]) == (3, "a") for each in portfolio)


def test_trials_outside_the_new_ranges_are_left_out() -> None:
    source = make_source()
    inside = [trial for trial in source.trials if trial.params["x"] >= 0.4]
    space = SearchSpace({"x": (0.4, 1.0), "y": (0.0, 1.0)})
    portfolio = first_of(learn(source, space=space))[1:]
    assert portfolio[0] == min(inside, key=lambda trial: trial.value or 0.0).params
    assert all(each["x"] >= 0.4 for each in portfolio)


def test_choices_bring_their_own_parameters_alone() -> None:
    old, new = optimizer_space(["sgd", "adam", "rprop"]), optimizer_space(["sgd", "adam", "nadam"])
    source = optuna.create_study(study_name="old", sampler=optuna.samplers.RandomSampler(seed=0))

    def loss(trial: optuna.Trial) -> float:
        params = old.suggest(trial)
        return abs(math.log(params["lr"] / 1e-3)) + (params["optimizer"] != "adam")

    source.optimize(loss, n_trials=40)
    study = learn(source, space=new)
    portfolio = first_of(study)[1:]
    assert portfolio[0]["optimizer"] == "adam"
    for each in portfolio:
        assert each == pytest.approx(new.to_trial(new.from_trial(each)))
    assert {each["optimizer"] for each in portfolio} <= {"sgd", "adam"}


def test_runs_under_the_trainer_s_names_teach_too() -> None:
    space = SearchSpace({"beta": (0.9, 0.999), "x": (0.0, 1.0)}, one_minus=["beta"])
    ranges = {
        "beta": optuna.distributions.FloatDistribution(0.0, 1.0),
        "x": optuna.distributions.FloatDistribution(0.0, 1.0),
    }
    trials = [
        create_trial(params={"beta": beta, "x": 0.5}, distributions=ranges, value=value)
        for value, beta in enumerate([0.995, 0.95, 0.5, 0.9])
    ]
    portfolio = first_of(learn(of_trials(trials), space=space))[1:]
    assert portfolio[0] == {"one_minus_beta": 0.005, "x": 0.5}


def test_what_is_learned_and_what_differs_is_said_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wider = {**RANGES, "w": optuna.distributions.FloatDistribution(0.0, 1.0)}
    space = SearchSpace({"x": (0.3, 1.0), "y": (0.0, 1.0), "z": (0.0, 1.0)})
    source = make_source(ranges=wider)
    n_inside = sum(trial.params["x"] >= 0.3 for trial in source.trials)
    with caplog.at_level(logging.INFO, logger="hpolab"):
        learn(source, space=space)
    said = [each.getMessage() for each in caplog.records if each.name.startswith("hpolab")]
    assert said == [
        f"Study 'new' first tries its default and 5 that it learned from 'earlier' ({n_inside} "
        "trials; unknown there, so at the default: 'z'; not in the search space: 'w'; "
        f"trials left out, as outside the search space: {60 - n_inside})."
    ]


EMPTY = optuna.create_study(study_name="empty")
SEVERAL = optuna.create_study(study_name="several", directions=["minimize", "maximize"])
NAMESAKE = make_source("new")
FOREIGN = of_trials(
    [
        create_trial(
            params={"depth": 3},
            distributions={"depth": optuna.distributions.IntDistribution(1, 9)},
            value=1.0,
        )
    ],
    "foreign",
)
ELSEWHERE = of_trials(
    [
        create_trial(
            params={"x": 5.0},
            distributions={"x": optuna.distributions.FloatDistribution(0.0, 9.0)},
            value=1.0,
        )
    ],
    "elsewhere",
)


@pytest.mark.parametrize(
    ("learn_from", "error", "message"),
    [
        (EMPTY, InvalidType, "`learn_from` must be a list of studies, got Study"),
        (["earlier"], InvalidType, "must hold optuna.Study objects, got str: `load_study`"),
        ([EMPTY], InvalidArgument, "studies with finished trials, got 'empty' without one"),
        ([SEVERAL], InvalidArgument, "one objective value, got 'several' with 2"),
        ([NAMESAKE], InvalidArgument, "other studies, got 'new', the study itself"),
        ([FOREIGN], InvalidArgument, "share a parameter.* 'foreign' with 'depth'.*has 'x', 'y'"),
        ([ELSEWHERE], InvalidArgument, "trial inside the search space, got 'elsewhere', whose 1"),
        ([FOREIGN, FOREIGN], InvalidArgument, "each study once, got 2 studies named 'foreign'"),
    ],
    ids=["study", "name", "empty", "several", "itself", "foreign", "outside", "twice"],
)
def test_what_no_study_can_learn_from_is_refused_before_one_is_made(
    learn_from: Any, error: type[Exception], message: str
) -> None:
    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(error, match=message):
        make_study("new", storage=storage, search_space=SPACE, learn_from=learn_from)
    assert storage.get_all_studies() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"search_space": None}, "needs to know the search space"),
        ({"direction": ["minimize", "minimize"]}, "several objective values, got 2"),
        ({"sampler": "grid"}, "left out with sampler='grid'"),
    ],
    ids=["no-space", "several", "grid"],
)
def test_a_study_that_cannot_learn_is_refused(arguments: dict[str, Any], message: str) -> None:
    given = {"search_space": SPACE, **arguments}
    with pytest.raises(InvalidArgument, match=message):
        make_study("new", storage="memory://", learn_from=[make_source()], **given)


def test_an_empty_list_teaches_nothing() -> None:
    study = make_study("new", storage="memory://", learn_from=[])
    assert study.trials == []
    assert learned_prior(study, RANGES) == []


def test_a_resumed_study_keeps_what_it_has_learned(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    source, other = make_source(), make_source("other", seed=5)

    def make(**arguments: Any) -> optuna.Study:
        return make_study("new", storage=url, search_space=SPACE, **arguments)

    first = first_of(make(learn_from=[source]))
    assert len(first) == 6
    for again in (make(), make(learn_from=[source]), load_study("new", storage=url)):
        assert first_of(again) == first
    with pytest.raises(RecipeMismatch, match="has learned from 'earlier', asked for 'other'"):
        make(learn_from=[other])


def test_a_study_that_was_begun_learns_no_more() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = make_study("new", storage=storage, search_space=SPACE)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(RecipeMismatch, match="begun without `learn_from`"):
        make_study("new", storage=storage, search_space=SPACE, learn_from=[make_source()])


def test_one_who_is_killed_while_it_enqueues_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'half.db'}")
    whole = learn(make_source())
    half = make_study("new", storage=storage, search_space=SPACE)
    for key, value in whole.user_attrs.items():
        if key.startswith(LEARNED_KEY):
            half.set_user_attr(key, value)
    half.enqueue_trial(first_of(whole)[0], user_attrs={LEARNED_KEY: 0})
    assert first_of(load_study("new", storage=storage)) == first_of(whole)


def test_what_was_enqueued_before_is_tried_before() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = make_study("new", storage=storage, search_space=SPACE)
    study.enqueue_trial({"x": 0.9, "y": 0.9})
    study = make_study("new", storage=storage, search_space=SPACE, learn_from=[make_source()])
    assert first_of(study)[:2] == [{"x": 0.9, "y": 0.9}, {"x": 0.5, "y": 0.5}]
    assert len(study.trials) == 7


def objective_of(loss: Loss) -> FunctionObjective:
    def train(params: Mapping[str, Any], reporter: Reporter) -> float:
        return loss(params["x"], params["y"])

    return FunctionObjective(train, search_space=SPACE, direction="minimize", max_steps=1)


def run_new(loss: Loss, n_trials: int, *sources: optuna.Study) -> optuna.Study:
    objective = objective_of(loss)
    study = make_study(
        "new", objective=objective, storage="memory://", sampler="random", learn_from=sources
    )
    run(study, objective, n_trials=n_trials)
    return study


def test_a_portfolio_that_helps_is_tried_to_its_end() -> None:
    source = make_source()
    study = run_new(valley, 8, source)
    assert len(study.trials) == 8
    assert [trial.params for trial in study.trials[:6]] == first_of(learn(source))
    assert study.best_value <= source.best_value


def test_a_portfolio_that_misleads_costs_two_trials_and_no_weight() -> None:
    source = make_source()
    study = run_new(lambda x, y: -valley(x, y), 16, source)
    tried = [trial.params for trial in study.trials]
    first = first_of(learn(source))
    assert tried[:3] == first[:3]
    assert not any(each in tried for each in first[3:])
    ((weight, top),) = learned_prior(study, RANGES)
    assert weight == 0.0
    assert top[0] == source.best_params


def test_the_default_s_own_failure_says_nothing_about_the_portfolio() -> None:
    source = make_source()

    def loss(x: float, y: float) -> float:
        return math.nan if (x, y) == (0.5, 0.5) else -valley(x, y)

    study = run_new(loss, 6, source)
    assert [trial.params for trial in study.trials] == first_of(learn(source))


def test_weights_grow_with_agreement_and_with_trials() -> None:
    related = make_source("related", lambda x, y: valley(x + 0.05, y), seed=2)
    hostile = make_source("hostile", lambda x, y: -valley(x, y), seed=3)
    study = run_new(valley, 6, related, hostile)
    few = learned_prior(study, RANGES)
    run(study, objective_of(valley), n_trials=40)
    many = learned_prior(study, RANGES)
    assert many[0].weight > 0.4
    assert many[1].weight == 0.0
    assert many[0].weight > few[0].weight
    assert all(valley(**each) < 0.1 for each in many[0].configurations)


def test_nothing_is_trusted_before_a_trial_has_ended() -> None:
    ((weight, top),) = learned_prior(learn(make_source()), RANGES)
    assert weight == 0.0
    assert 5 <= len(top) <= 20


@pytest.mark.needs("torch")
def test_the_model_of_auto_begins_where_an_earlier_study_was_good() -> None:
    def shifted(x: float, y: float) -> float:
        return valley(x - 0.02, y + 0.02)

    def drawn(*sources: optuna.Study) -> list[float]:
        study = make_study(
            "new",
            storage="memory://",
            objective=objective_of(shifted),
            sampler="auto",
            learn_from=list(sources),
        )
        run(study, objective_of(shifted), n_trials=14)
        return [trial.value or 0.0 for trial in study.trials[8:]]

    assert np.median(drawn(make_source(n_trials=100))) < 0.5 * np.median(drawn())


def test_what_a_study_stores_of_a_long_one_is_small_and_plain() -> None:
    rng = np.random.default_rng(0)
    names = [f"parameter_{i}" for i in range(40)]
    ranges = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in names}
    trials = [
        create_trial(
            params=dict(zip(names, rng.random(40).tolist(), strict=True)),
            distributions=ranges,
            value=float(rng.random()),
        )
        for _ in range(600)
    ]
    study = learn(of_trials(trials), space=SearchSpace(dict(ranges)))
    for key, value in study.user_attrs.items():
        if key.startswith(LEARNED_KEY):
            assert len(json.dumps(value)) < 65_535
    (found,) = learned_prior(study, ranges)
    best = min(trials, key=lambda trial: trial.value or 0.0)
    assert found.configurations[0] == best.params
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_sampler_that_draws_nothing_itself_tries_the_whole_portfolio() -> None:
    objective = objective_of(lambda x, y: -valley(x, y))
    study = make_study(
        "new",
        objective=objective,
        storage="memory://",
        sampler="manual",
        learn_from=[make_source()],
    )
    first = first_of(study)
    run(study, objective)
    assert [trial.params for trial in study.trials] == first


@pytest.mark.parametrize("n_before", [1, 2, 3, 4])
def test_a_study_that_stopped_in_its_portfolio_ends_as_the_uninterrupted_one(
    n_before: int, tmp_path: Path
) -> None:
    objective = objective_of(lambda x, y: -valley(x, y))
    source = make_source()

    def study_at(name: str, *budgets: int) -> list[dict[str, Any]]:
        url = f"sqlite:///{tmp_path / name}"
        make_study("new", objective=objective, storage=url, learn_from=[source], seed=1)
        for budget in budgets:
            study = load_study("new", storage=url)
            run(study, objective, n_trials=budget)
        return [trial.params for trial in study.trials if trial.state.is_finished()]

    assert study_at("two.db", n_before, 8) == study_at("one.db", 8)


def test_two_workers_give_a_portfolio_up_by_what_both_are_sure_to_see(tmp_path: Path) -> None:
    source = make_source()
    first = first_of(learn(source))
    objective = objective_of(lambda x, y: -valley(x, y))
    url = f"sqlite:///{tmp_path / 'new.db'}"
    study = make_study("new", objective=objective, storage=url, learn_from=[source])
    run(study, objective, n_trials=7, n_workers=2, reproducible=True)
    tried = [trial.params for trial in study.trials]
    # Trial 3 may begin before trial 2 has ended, however long that takes.
    assert [each for each in first if each in tried] == first[:4]
