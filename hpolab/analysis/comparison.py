"""Comparison: what several tunings of several contenders say, each tuned once or several times."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna import Study

from hpolab.analysis import comparison_words as words
from hpolab.analysis.contender import Contender, contender_of, random_draws, required_space
from hpolab.analysis.judge import improvements
from hpolab.analysis.repeats import (
    Outperforming,
    improvements_over_repeats,
    outperforming,
    winning,
)
from hpolab.analysis.results import Result
from hpolab.analysis.statistics import depends_on_seed
from hpolab.analysis.tuning_curves import TuningCurve, curve_of_random_trials, curve_of_repeats
from hpolab.analysis.wording import count, mean_and_error, short, standard_error
from hpolab.errors import InvalidArgument, check_count, one_of
from hpolab.studies.export import in_short
from hpolab.studies.trials import sign_of
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.analysis.effects import Effect

__all__ = ["Comparison"]


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """What a comparison has found.

    Attributes:
        study_name: Its name.
        direction: "minimize" or "maximize".
        contenders: By name, in the order in which they were given.
        min_difference: The smallest difference of scores that matters; None if none was given.
        n_rows: The number of test rows, users or groups that were scored one by one; None if
            scores are not known so.
        unit: What was scored one by one: "row", "user", "group", or "row group" where the metric is
            no mean over rows.
    """

    study_name: str
    direction: str
    contenders: Mapping[str, Contender]
    min_difference: float | None = None
    n_rows: int | None = None
    unit: str = "row"

    @classmethod
    def of(
        cls,
        study_name: str,
        studies: Mapping[str, Study | Sequence[Study]],
        *,
        min_difference: float | None = None,
    ) -> Comparison:
        """Return a comparison of studies that exist already.

        Nobody checks that they had the same budget, data and metric, as `compare` does.

        Args:
            study_name: The comparison's name.
            studies: Contender -> its study, run with a search space of hpolab's; or its studies, if
                it was tuned several times. Those of one place are paired over contenders, so they
                should have one seed.
            min_difference: The smallest difference of scores that matters.

        Raises:
            InvalidArgument: If there is no study, one has no search space stored, or directions
                differ.

        Example:
            >>> from hpolab import FunctionObjective, SearchSpace, make_study, run
            >>> studies = {}
            >>> for x in (0.1, 0.2):
            ...     objective = FunctionObjective(
            ...         lambda params, reporter: params["x"] ** 2,
            ...         search_space=SearchSpace({"x": (x, 1.0)}),
            ...         direction="minimize", max_steps=1,
            ...     )
            ...     studies[f"from {x}"] = make_study(
            ...         f"from-{x}", storage="memory://", objective=objective
            ...     )
            ...     run(studies[f"from {x}"], objective, n_trials=20)
            >>> Comparison.of("ends", studies).ranking()[0].name
            'from 0.1'
        """
        tuned = {
            name: [each] if isinstance(each, Study) else list(each)
            for name, each in studies.items()
        }
        every = [study for several in tuned.values() for study in several]
        directions = {tuple(study.directions) for study in every}
        if len(directions) != 1 or not all(tuned.values()):
            raise InvalidArgument(
                f"`studies` must be several of one direction, got {len(every)} with "
                f"{len(directions)} directions."
            )
        for study in every:
            required_space(study)  # refuses one without
        contenders = {}
        for name, (first, *further) in tuned.items():
            repeats = tuple(contender_of(name, study) for study in further)
            contenders[name] = replace(contender_of(name, first), repeats=repeats)
        direction = every[0].direction.name.lower()
        return cls(study_name, direction, contenders, min_difference)

    @property
    def n_repeats(self) -> int:
        """The number of finished tunings of each contender, by which contenders are compared."""
        return len(self._finished()[0])

    @property
    def has_test_scores(self) -> bool:
        """Whether the best configurations were scored on test data."""
        return any(
            each.test_scores for name in self.contenders for each in self.contenders[name].tunings
        )

    def ranking(self) -> list[Contender]:
        """Return the contenders, the best one first; those without a value are last.

        With one tuning each, the best value comes first. With several, the best mean over the
        repeats: of the test scores, or of the best values where there are none.
        """
        if self.n_repeats < 2:
            return sorted(self.contenders.values(), key=lambda each: self._loss(each.best_value))
        means = {name: math.fsum(each) / len(each) for name, each in self.scores().items()}
        return sorted(self.contenders.values(), key=lambda each: self._loss(means[each.name]))

    def best_tuning(self, name: str) -> Contender:
        """Return the tuning of a contender with the best value; the first if none has one."""
        return min(self._contender(name).tunings, key=lambda each: self._loss(each.best_value))

    def scores(self) -> dict[str, list[float]]:
        """Return each contender's scores by repeat, the mean over the fresh seeds of each.

        Without test scores they are the best values of the tunings. A repeat counts once all
        contenders have finished it. NaN stands for a configuration that could not be trained.
        """
        repeats, n_seeds = self._finished()
        return {
            name: [each.tunings[repeat].mean_score(n_seeds) for repeat in repeats]
            for name, each in self.contenders.items()
        }

    def improvements(self) -> dict[str, Effect]:
        """Return by how much the first of the ranking is better than each rival.

        With one tuning each, this is about the configurations that were found: their scores on the
        test data, paired seed by seed. The ranking is by the trials' values, not by the test
        scores, so nobody is first for these scores. Rivals that were not scored on the same seeds
        are left out. If scores by row are known, it is about new data like the test data, with
        rows and seeds both drawn at random; otherwise about these test rows, and pairs whose
        trainings do not depend on their seeds are left out: copies of a score are no evidence.

        With several, it is about the contenders: the mean over the repeats (`scores`), paired
        repeat by repeat, simultaneous over all pairs, on the same test data for all.
        """
        leader, maximize = self.ranking()[0].name, self.direction == "maximize"
        if self.n_repeats >= 2:
            scores = {each.name: self.scores()[each.name] for each in self.ranking()}
            found = improvements_over_repeats(
                scores, leader, maximize=maximize, min_difference=self.min_difference
            )
            copies = self._copied()
            return {
                rival: effect for rival, effect in found.items() if not {leader, rival} <= copies
            }
        by_seed = {each.name: each.test_scores for each in self.ranking()}
        rows = self._test_rows()
        tested = {
            name: each
            for name, each in by_seed.items()
            if name == leader or rows is not None or depends_on_seed(by_seed[leader], each)
        }
        return improvements(
            tested, leader, maximize=maximize, rows=rows, min_difference=self.min_difference
        )

    def outperforming(self) -> dict[str, Outperforming]:
        """Return how probably the first of the ranking outperforms each rival in another tuning.

        Pairs of tunings in which it does better, with exact intervals that need no normality and
        hold together over all pairs (Bouthillier et al. 2021, "Accounting for variance in machine
        learning benchmarks", MLSys, who call 0.75 worth it). A configuration that could not be
        trained on a fresh seed loses. Empty with one tuning each.
        """
        if self.n_repeats < 2:
            return {}
        scores = {each.name: self.scores()[each.name] for each in self.ranking()}
        leader = next(iter(scores))
        found = outperforming(scores, leader, maximize=self.direction == "maximize")
        copies = self._copied()
        return {rival: each for rival, each in found.items() if not {leader, rival} <= copies}

    def winners(self, budget: int) -> dict[str, Outperforming]:
        """Return how probably each contender has the best value of all after so many trials.

        Over the repeats, with exact intervals that hold together. One tuning each does not tell
        who would win another.

        Args:
            budget: The number of trials of each, 1 or above.

        Raises:
            InvalidArgument: If tunings were not repeated, are copies of each other, or have fewer
                trials.
        """
        check_count("budget", budget)
        repeats, _ = self._finished()
        if len(repeats) < 2 or len(self._copied()) == len(self.contenders):
            raise InvalidArgument(
                "`winners` must be asked of repeated tunings (`compare(..., n_repeats=...)`), got "
                f"{len(repeats)}{' copies' * (len(repeats) > 1)}: one tuning does not tell who "
                "would win another."
            )
        curves = {
            name: [self._best_so_far(each.tunings[repeat].values) for repeat in repeats]
            for name, each in self.contenders.items()
        }
        shortest = min(len(curve) for several in curves.values() for curve in several)
        if budget > shortest:
            raise InvalidArgument(
                f"`budget` must be at most the {shortest} trials that all tunings have, got "
                f"{budget}."
            )
        best = {name: [curve[budget - 1] for curve in each] for name, each in curves.items()}
        return winning(best, maximize=self.direction == "maximize")

    @property
    def verdict(self) -> str:
        """What is known of the leader and its rivals, and of what: configurations or contenders.

        With one tuning each, it is about the configurations that were found, and "" without test
        scores. With several, it is about the contenders.
        """
        leader = self.ranking()[0]
        rivals = [each.name for each in self.ranking()[1:]]
        if self.n_repeats >= 2:
            _, n_seeds = self._finished()
            return words.of_contenders(
                leader.name,
                rivals,
                self.improvements(),
                self.outperforming(),
                n_repeats=self.n_repeats,
                n_seeds=n_seeds,
                scores=self.scores(),
            )
        rows = self._test_rows()
        without_chance = [
            name
            for name in rivals
            if rows is None
            and len(self.contenders[name].test_scores) > 1
            and not depends_on_seed(leader.test_scores, self.contenders[name].test_scores)
        ]
        return words.of_configurations(
            leader.name,
            leader.test_scores,
            self.improvements(),
            without_chance,
            n_rows=None if rows is None else self.n_rows or rows[leader.name].shape[1],
            unit=self.unit,
        )

    def _test_rows(self) -> dict[str, NDArray[np.float64]] | None:
        """Return scores by row of all that were scored, (n_seeds, n_rows) each; None if unknown."""
        scored = [each for each in self.contenders.values() if each.test_scores]
        rows = {each.name: each.test_rows for each in scored if each.test_rows is not None}
        n_rows = {each.shape[1] for each in rows.values()}
        return rows if len(rows) == len(scored) and len(n_rows) == 1 else None

    def table(self) -> TextTable:
        """Return one row for each contender, the best first."""
        many = max(len(each.repeats) for each in self.contenders.values()) > 0
        head = ["", *(["tunings"] if many else []), "trials", "default", "best", "unconfirmed gain"]
        head += ["test score", "best parameters"]
        rows = [
            [
                each.name,
                *([str(len(each.tunings))] if many else []),
                *self._row(each),
            ]
            for each in self.ranking()
        ]
        note = (
            "Means over tunings ± their standard errors, where there are several." if many else ""
        )
        return TextTable(head, rows, frozenset([0]), may_be_cut=True, note=note)

    def best_so_far(self, name: str) -> NDArray[np.float64]:
        """Return the best value after 1, 2, ... trials of a contender; NaN before the first.

        That of its first tuning; `tuning_curve` tells how another one would go.
        """
        return self._best_so_far(self._contender(name).values)

    def tuning_curve(self, name: str) -> TuningCurve | None:
        """Return the median best value after 1, 2, ... trials of another tuning, with intervals.

        With several tunings, their median, each number of trials by itself. With one of random
        search whose trials were neither pruned nor enqueued, the curve of so many of its random
        trials with an exact simultaneous band; the default configuration is no draw and is left
        out. Other samplers learn, so that one tuning does not tell how another would go.

        Args:
            name: The contender.

        Returns:
            None if nothing is known of another tuning.
        """
        contender = self._contender(name)
        maximize = self.direction == "maximize"
        if contender.repeats:
            curves = [self._best_so_far(each.values) for each in contender.tunings]
            known = [curve for curve in curves if np.isfinite(curve).any()]
            return curve_of_repeats(known, maximize=maximize) if len(known) > 1 else None
        drawn = random_draws(contender.study)
        if drawn is None or not np.isfinite(drawn).any():
            return None
        return curve_of_random_trials(drawn, len(drawn), maximize=maximize)

    def best_of_budget(
        self, name: str, budget: int, quantiles: Sequence[float] = (0.05, 0.5, 0.95)
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the mean best value of so many of a contender's trials, and its quantiles.

        It is exact, over all subsets of the trials of its first tuning: of n sorted values, the
        i-th is the best of b with probability C(i - 1, b - 1) / C(n, b). For random search the mean
        is an estimate of what b trials give (Dodge et al. 2019, "Show Your Work", EMNLP, who draw
        with replacement). The quantiles are those of re-orderings of these trials, not of another
        tuning: `tuning_curve` has intervals for that.

        Args:
            name: The contender.
            budget: The number of trials, from 1 to those that the contender has.
            quantiles: Quantiles to return, in [0, 1].

        Raises:
            InvalidArgument: If the name is unknown, or the contender has fewer trials or no value.
        """
        values, chances = self._best_of(self._contender(name), budget)
        reached = np.cumsum(chances)
        places = np.searchsorted(reached, np.asarray(quantiles) - 1e-12)
        return float(values @ chances), values[np.minimum(places, len(values) - 1)]

    def _in_one_line(self) -> str:
        return self.verdict or (
            f"{self.study_name!r}, {count(len(self.contenders), 'contender')}: "
            f"{', '.join(self.contenders)}"
        )

    def _parts(self) -> list[str | TextTable]:
        return [self.table(), *([self.verdict] if self.verdict else [])]

    def _records(self) -> Iterator[dict[str, Any]]:
        found, outperformed = self.improvements(), self.outperforming()
        many = any(each.repeats for each in self.contenders.values())
        for each in self.ranking():
            rival, wins = found.get(each.name), outperformed.get(each.name)
            tunings = each.tunings
            gains = [gain for gain in map(self._gain, tunings) if gain is not None]
            record: dict[str, Any] = {
                "contender": each.name,
                **({"n_repeats": len(tunings)} if many else {}),
                "n_trials": len(each.values),
                **_mean_columns("default_value", [t.default_value for t in tunings], error=many),
                **_mean_columns("best_value", [t.best_value for t in tunings], error=many),
                "unconfirmed_gain": math.fsum(gains) / len(gains) if gains else None,
            }
            if self.has_test_scores:
                record |= {
                    "n_test_seeds": len(each.test_scores),
                    **_mean_columns("test_score", _test_scores(each), error=True),
                    **_means_of_metrics(each),
                }
            if self.has_test_scores or many:
                record["leader_is_better_by"] = None if rival is None else rival.estimate
                record["p_value"] = None if rival is None else rival.p_value
            if many:
                record["leader_outperforms"] = None if wins is None else wins.probability
            tuned = _tuned_params(self.best_tuning(each.name))
            yield record | {f"params_{name}": value for name, value in tuned.items()}

    def _finished(self) -> tuple[list[int], int]:
        """Return the repeats that all contenders have finished, and the seeds that all share.

        Of a tuning that has not ended, or that was begun again for more trials, nothing is known.
        """
        every = list(self.contenders.values())
        asked = {tuning.n_trials for each in every for tuning in each.tunings} - {None}
        goal = max((n for n in asked if n is not None), default=None)
        tested = self.has_test_scores

        def is_done(tuning: Contender) -> bool:
            is_tuned = tuning.best_value is not None if goal is None else tuning.n_trials == goal
            return is_tuned and (
                not tested or bool(tuning.test_scores) or tuning.best_value is None
            )

        n = min(len(each.tunings) for each in every)
        done = [r for r in range(n) if all(is_done(each.tunings[r]) for each in every)]
        n_seeds = [
            len(each.tunings[r].test_scores)
            for r in done
            for each in every
            if each.tunings[r].best_value is not None
        ]
        return done, min(n_seeds, default=0) if tested else 0

    def _copied(self) -> set[str]:
        """Return the contenders whose tunings are all the same: they show no chance."""
        repeats, _ = self._finished()
        return {
            name
            for name, each in self.contenders.items()
            if all(each.tunings[r].is_copy_of(each.tunings[repeats[0]]) for r in repeats)
        }

    def _row(self, contender: Contender) -> list[str]:
        tunings = contender.tunings
        if len(tunings) == 1:
            shown = [short(contender.default_value), short(contender.best_value)]
            scored = mean_and_error(contender.test_scores)
        else:
            shown = [
                mean_and_error([value for value in column if value is not None])
                for column in (
                    [each.default_value for each in tunings],
                    [each.best_value for each in tunings],
                )
            ]
            scored = mean_and_error(_test_scores(contender))
        gains = [gain for gain in map(self._gain, tunings) if gain is not None]
        gain = math.fsum(gains) / len(gains) if gains else None
        n_trials = sorted({len(each.values) for each in tunings})
        counted = f"{n_trials[0]:,}" if len(n_trials) == 1 else f"{n_trials[0]:,}-{n_trials[-1]:,}"
        return [counted, *shown, short(gain), scored, _brief(self.best_tuning(contender.name))]

    def _gain(self, contender: Contender) -> float | None:
        """Return by how much a contender's best value is better than its default's."""
        if contender.best_value is None or contender.default_value is None:
            return None
        gain = sign_of(self.direction) * (contender.best_value - contender.default_value)
        return gain or 0.0  # no minus before a zero

    def _best_so_far(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        best = np.fmax if self.direction == "maximize" else np.fmin
        return best.accumulate(values) if len(values) else values

    def _contender(self, name: str) -> Contender:
        return self.contenders[one_of("name", name, self.contenders)]

    def _loss(self, value: float | None) -> float:
        if value is None or math.isnan(value):
            return np.inf
        return -sign_of(self.direction) * value

    def _best_of(
        self, contender: Contender, budget: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values that can be the best of a budget, and how likely each is."""
        check_count("budget", budget)
        n = len(contender.values)
        known = contender.values[~np.isnan(contender.values)]
        if budget > n or not len(known):
            raise InvalidArgument(
                f"`budget` must be at most the {n} trials of {contender.name!r}, of which "
                f"{len(known)} have a value, got {budget}."
            )
        # Trials without a value, pruned or failed, count as worse than all others.
        ordered = np.sort(known if self.direction == "maximize" else -known)
        chances = _chances_of_best(n, budget)[n - len(known) :]
        values = ordered if self.direction == "maximize" else -ordered
        return values[chances > 0], chances[chances > 0] / chances.sum()


def _test_scores(contender: Contender) -> list[float]:
    """Return the scores whose mean and error are shown: of seeds, or of several tunings."""
    tunings = contender.tunings
    if len(tunings) == 1:
        return list(contender.test_scores)
    return [each.mean_score(len(each.test_scores)) for each in tunings if each.test_scores]


def _mean_columns(name: str, values: Sequence[float | None], *, error: bool) -> dict[str, Any]:
    """Return the mean of values and, if asked for, its standard error, as columns of a frame."""
    known = [value for value in values if value is not None]
    columns = {name: math.fsum(known) / len(known) if known else None}
    if error:
        columns[f"{name}_error"] = standard_error(known)
    return columns


def _means_of_metrics(contender: Contender) -> dict[str, float]:
    """Return the means of all other metrics on the test data, as columns of a frame."""
    names = dict.fromkeys(name for each in contender.tunings for name in each.test_metrics)
    return {
        f"test_{name}": float(
            np.mean([np.mean(each.test_metrics.get(name, math.nan)) for each in contender.tunings])
        )
        for name in names
    }


def _chances_of_best(n: int, budget: int) -> NDArray[np.float64]:
    """Return how likely each of n values, in rising order, is the best of a subset."""
    from scipy.special import gammaln

    places = np.arange(1, n + 1, dtype=np.float64)
    # C(i - 1, b - 1) / C(n, b) by logarithms; below b values there is no such subset.
    log = gammaln(places) - gammaln(np.maximum(places - budget + 1, 1)) - gammaln(budget)
    total = gammaln(n + 1) - gammaln(n - budget + 1) - gammaln(budget + 1)
    return np.where(places >= budget, np.exp(log - total), 0.0)


def _brief(contender: Contender) -> str:
    """Return the best configuration's tuned parameters on one line."""
    if contender.best_params is None:
        return "no trial is complete"
    return in_short(_tuned_params(contender), digits=3)


def _tuned_params(contender: Contender) -> dict[str, Any]:
    """Return the best configuration without what its search space fixes."""
    params = contender.best_params or {}
    names = required_space(contender.study).names().values()
    return {name: params[name] for name in names if name in params}
