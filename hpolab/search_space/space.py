"""The search space: names, ranges, defaults and sources, on Optuna's own distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpolab import _optuna
from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, InvalidType, check_text, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.choice import Choice, read_entries
from hpolab.search_space.entries import (
    Entries,
    Entry,
    Fixed,
    Range,
    TrialParameter,
)
from hpolab.search_space.near import meant_name
from hpolab.search_space.prior import as_prior
from hpolab.search_space.ranges import is_spec, make_distribution, one_minus
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from optuna.trial import BaseTrial

    from hpolab.search_space.prior import Prior

__all__ = ["UNKNOWN_SPACE", "SearchSpace", "as_space", "named_space"]

# What a repr shows of a space of many parameters; its table has all.
_MOST_LINES = 15
# Sources are sentences.
_MOST_CHARS = 110


@dataclass(frozen=True, init=False, repr=False)
class SearchSpace(Displayed):
    """A frozen set of named ranges, fixed values and choices with their own parameters.

    A space speaks two languages. *Trainer params* are what training code reads: ``{"beta2":
    0.999}``. *Trial params* are what Optuna samples and stores: decay rates near one are held as
    ``one_minus_beta2`` on a log scale, and a choice's parameters carry its branch's name,
    ``adam.lr``, so that no two branches share a distribution. `suggest` and `from_trial` go from
    trial to trainer; `to_trial` goes back.

    Two spaces are equal if they hold the same entries in the same order: the order is the one in
    which a trial's parameters are drawn, so it is part of what a seed reproduces.

    Args:
        parameters: By name, one of: a tuple (low, high) or (low, high, "log"), whole numbers if
            both ends are ints and floats otherwise; a list of choices; a fixed None, bool, number
            or string; or an Optuna distribution, taken as it is. A linear range over three decades
            or more warns; ``(low, high, "linear")`` says that it is meant.
        defaults: Defaults in trainer units, by name of a range. Without one, the middle of the
            range on its own scale, or the first choice.
        sources: Where a range comes from, by name.
        one_minus: Names whose trial holds 1 - value on a log scale. Their range is a tuple of
            floats in [0, 1), in trainer units.
        priors: Where in a numeric range good values are expected, by name: a `Prior`, or a tuple
            (median, spread). It changes neither the range nor its default.

    Raises:
        InvalidArgument: If a range or a list of choices is empty, a default lies outside its
            range, two names meet, ``defaults``, ``sources``, ``one_minus`` or ``priors`` name no
            range, or a prior does not fit its range.
        InvalidType: If a parameter or a prior is none of the above.

    Warns:
        UserWarning: If a linear range spans three decades or more.

    Example:
        >>> import optuna
        >>> space = SearchSpace(
        ...     {
        ...         "lr": (1e-4, 1e-2, "log"),
        ...         "beta2": (0.99, 0.9999),
        ...         "hidden": (16, 256),
        ...         "activation": ["relu", "gelu"],
        ...         "epochs": 10,
        ...     },
        ...     defaults={"lr": 1e-3, "beta2": 0.999},
        ...     one_minus=["beta2"],
        ... )
        >>> space.defaults()
        {'lr': 0.001, 'beta2': 0.999, 'hidden': 136, 'activation': 'relu', 'epochs': 10}
        >>> study = optuna.create_study()
        >>> study.enqueue_trial(space.to_trial(space.defaults()))
        >>> space.suggest(study.ask()) == space.defaults()
        True
        >>> space.override(lr=(1e-5, 1e-4), hidden=64)
        SearchSpace(
          lr: 1e-05 .. 0.0001 (log scale), default 0.0001
          beta2: 0.99 .. 0.9999 (log scale of 1 - value), default 0.999
          hidden = 64
          activation: 'relu' | 'gelu', default 'relu'
          epochs = 10
        )
    """

    _entries: Entries

    @checks_keywords()
    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any] | None = None,
        sources: Mapping[str, str] | None = None,
        one_minus: Collection[str] = (),
        priors: Mapping[str, Prior | tuple[float, float]] | None = None,
    ) -> None:
        defaults, sources, priors = defaults or {}, sources or {}, priors or {}
        entries = {
            _name(name): _entry(name, spec, defaults, sources.get(name, ""), name in one_minus)
            for name, spec in parameters.items()
        }
        ranges = [name for name, entry in entries.items() if isinstance(entry, Range)]
        for argument, names in [
            ("defaults", defaults),
            ("sources", sources),
            ("one_minus", one_minus),
            ("priors", priors),
        ]:
            for name in names:
                one_of(argument, name, ranges)
        for name, prior in priors.items():
            entry = entries[name]
            assert isinstance(entry, Range)
            entries[name] = entry.with_prior(name, as_prior(name, prior))
        object.__setattr__(self, "_entries", Entries.of(entries))

    @classmethod
    def choice(cls, name: str, branches: Mapping[str, SearchSpace | Mapping[str, Any]]) -> Self:
        """Return a space in which the choice among other spaces is itself a parameter.

        The trial holds the choice under ``name`` and a branch's parameters as ``branch.parameter``;
        the trainer sees ``name`` and the chosen branch's parameters without the prefix. The default
        is the first branch with its defaults.

        Args:
            name: The choice's name, such as ``"optimizer"``.
            branches: The spaces, or dicts of ranges, by the value that selects them. A branch may
                fix ``name`` at its own value, as `optimizer_space` does.

        Raises:
            InvalidArgument: If there is no branch, a branch's name is not usable, or a branch uses
                ``name`` for something else.
            InvalidType: If a branch is neither a search space nor a dict.

        Example:
            >>> space = SearchSpace.choice("model", {"linear": {}, "mlp": {"hidden": (16, 64)}})
            >>> list(space.distributions())
            ['model', 'mlp.hidden']
            >>> space.from_trial({"model": "mlp", "mlp.hidden": 32})
            {'model': 'mlp', 'hidden': 32}
        """
        if not branches:
            raise InvalidArgument(f"`branches` must not be empty, got {branches!r} for {name!r}")
        made = tuple((key, _branch(name, key, branch)) for key, branch in branches.items())
        return cls._of(Entries.of({_name(name): Choice(made)}))

    @property
    def conditional(self) -> bool:
        """Whether some parameters exist in some trials only."""
        return any(isinstance(entry, Choice) for _, entry in self._entries.named)

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Return trainer params, fixed values included, drawn from a trial.

        A trial that was enqueued in the trainer's names tries what they say.

        Args:
            trial: A `Trial`, a `FixedTrial` or a `FrozenTrial`.

        Raises:
            InvalidArgument: If the trial was enqueued with a name that the space lacks, or with a
                value outside its range, as `to_enqueue` says.

        Example:
            >>> from optuna.trial import FixedTrial
            >>> space = SearchSpace({"rho": (0.5, 0.999), "epochs": 10}, one_minus=["rho"])
            >>> space.suggest(FixedTrial({"one_minus_rho": 0.1}))
            {'rho': 0.9, 'epochs': 10}
        """

        tried = _optuna.params_to_try(trial)
        if tried and not trial.params:
            settled = self.to_enqueue(tried)
            if settled != tried:
                _optuna.try_params(trial, settled)

        def draw(name: str, d: BaseDistribution) -> Any:
            if isinstance(d, FloatDistribution):
                return trial.suggest_float(name, d.low, d.high, log=d.log, step=d.step)
            if isinstance(d, IntDistribution):
                return trial.suggest_int(name, d.low, d.high, log=d.log, step=d.step)
            assert isinstance(d, CategoricalDistribution)
            return trial.suggest_categorical(name, d.choices)

        return self._entries.draw(draw)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distributions by trial name, those of every branch included.

        ``study.ask(space.distributions())`` samples the whole space at once; for a conditional
        space that would draw every branch, so use `suggest` there.
        """
        return {name: each.distribution for name, each in self._by_trial_name.items()}

    def names(self) -> dict[str, str]:
        """Return trial name -> trainer name of all that is tuned, those of every branch included.

        Example:
            >>> SearchSpace({"lr": (0.1, 1.0), "rho": (0.5, 0.9)}, one_minus=["rho"]).names()
            {'lr': 'lr', 'one_minus_rho': 'rho'}
        """
        return {name: each.trainer_name for name, each in self._by_trial_name.items()}

    def trainer_names(self) -> list[str]:
        """Return every name that training code may be given, of fixed values and all branches too.

        Example:
            >>> SearchSpace.choice("model", {"linear": {}, "mlp": {"hidden": 8}}).trainer_names()
            ['model', 'hidden']
        """
        return self._entries.trainer_names()

    def trainer_name(self, trial_name: str) -> str:
        """Return what training code calls a trial's parameter: ``adam.one_minus_beta2`` is beta2.

        A name that is not in the space, as in trials of an earlier one, is returned as it is.

        Example:
            >>> space = SearchSpace.choice("optimizer", {"sgd": {"lr": (0.1, 1.0)}})
            >>> space.trainer_name("sgd.lr"), space.trainer_name("width")
            ('lr', 'width')
        """
        found = self._by_trial_name.get(trial_name)
        return trial_name if found is None else found.trainer_name

    def trainer_value(self, trial_name: str, value: Any) -> Any:
        """Return a trial's value of a parameter in trainer units.

        Example:
            >>> space = SearchSpace({"rho": (0.5, 0.999)}, one_minus=["rho"])
            >>> space.trainer_value("one_minus_rho", 0.001)
            0.999
        """
        return one_minus(value) if self.is_one_minus(trial_name) else value

    def is_one_minus(self, trial_name: str) -> bool:
        """Tell whether a trial holds 1 - value of a parameter."""
        found = self._by_trial_name.get(trial_name)
        return found is not None and found.is_one_minus

    def address(self, trial_name: str) -> str:
        """Return what `override` calls a trial's parameter: ``adam.beta2``.

        A name that is not in the space is returned as it is.
        """
        found = self._by_trial_name.get(trial_name)
        return trial_name if found is None else found.address

    def defaults(self) -> dict[str, Any]:
        """Return the default configuration in trainer units, fixed values included."""
        return self._entries.defaults()

    def sources(self) -> dict[str, str]:
        """Return where each range comes from; a branch's parameter is named ``branch.name``."""
        return self._entries.sources()

    def priors(self) -> dict[str, Prior]:
        """Return what is expected of good values, by trial name, for the ranges that have a prior.

        Priors are in trainer units; `Prior.in_unit_interval` turns one into a range's own scale.

        Example:
            >>> ranges = {"rho": (0.5, 0.999), "n": (1, 9)}
            >>> space = SearchSpace(ranges, one_minus=["rho"], priors={"rho": (0.9, 3.0)})
            >>> space.priors()
            {'one_minus_rho': Prior(median=0.9, spread=3.0, source='')}
        """
        found = {name: each.prior for name, each in self._by_trial_name.items()}
        return {name: prior for name, prior in found.items() if prior is not None}

    def to_trial(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `Study.enqueue_trial` takes for a trainer's params.

        Args:
            params: A value for each parameter of the space (of the chosen branch only); fixed
                values may be left out.

        Raises:
            InvalidArgument: If a value is outside its range, differs from a fixed value, is
                missing, or belongs to no parameter; the nearest name is suggested.

        Example:
            >>> SearchSpace({"beta1": (0.8, 0.95)}, one_minus=["beta1"]).to_trial({"beta1": 0.9})
            {'one_minus_beta1': 0.1}
        """
        for name in params:
            self._check_trainer_name(name)
        rest = dict(params)
        taken = self._entries.take(rest)
        for name in rest:
            one_of("params", name, params.keys() - rest.keys())
        return taken

    def to_enqueue(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `Study.enqueue_trial` takes for some params, a trial's or the trainer's.

        Args:
            params: A value for all or some of the parameters; the sampler draws the others. A
                parameter of a branch comes with its choice.

        Raises:
            InvalidArgument: If a name is not in the space, a value is outside its range or differs
                from a fixed value, or a branch's parameter comes without its choice.

        Example:
            >>> space = SearchSpace({"lr": (0.1, 1.0), "rho": (0.5, 0.9)}, one_minus=["rho"])
            >>> space.to_enqueue({"rho": 0.8}), space.to_enqueue({"one_minus_rho": 0.2})
            ({'one_minus_rho': 0.2}, {'one_minus_rho': 0.2})
        """
        rest = dict(params)
        found = self._entries.propose(rest)
        for name in rest:
            raise InvalidArgument(self._unknown(name))
        return found

    def from_trial(self, trial_params: Mapping[str, Any]) -> dict[str, Any]:
        """Return trainer params, fixed values included, for what a trial stored.

        Args:
            trial_params: ``trial.params``; names of other spaces are passed over, and values are
                taken as they are, so that trials of a wider space can still be read.

        Raises:
            InvalidArgument: If a parameter of the space is missing, or a choice names no branch; a
                name that was meant is suggested.

        Example:
            >>> space = SearchSpace({"beta1": (0.8, 0.95), "eps": 1e-8}, one_minus=["beta1"])
            >>> space.from_trial({"one_minus_beta1": 0.1})
            {'beta1': 0.9, 'eps': 1e-08}
        """

        def draw(name: str, _: BaseDistribution) -> Any:
            if name not in trial_params:
                raise InvalidArgument(self._missing(name, trial_params))
            return trial_params[name]

        return self._entries.draw(draw)

    def complete(
        self, params: Mapping[str, Any], *, strict: bool = False, known: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return trainer params for what a trial stored or a trainer reads, fixed values filled in.

        Args:
            params: A trial's params, which must be whole, or the trainer's, of which ranges may be
                left out: the trainer has defaults of its own. Values are taken as they are.
            strict: Whether names that the space lacks are refused; else they are passed on. A
                trial's name of another space is refused in any case.
            known: Names that are passed on though the space lacks them, as the trainer has them.

        Raises:
            InvalidArgument: If a trial's parameter is missing, a parameter comes under both names,
                a choice names no branch, or a name is refused.

        Example:
            >>> space = SearchSpace({"beta2": (0.99, 0.9999), "eps": 1e-8}, one_minus=["beta2"])
            >>> space.complete({"one_minus_beta2": 0.001})
            {'beta2': 0.999, 'eps': 1e-08}
            >>> space.complete({"beta2": 0.999})
            {'beta2': 0.999, 'eps': 1e-08}
        """
        if params.keys() & (self.distributions().keys() - set(self.trainer_names())):
            self.from_trial(params)  # a trial's, so nothing may be missing
        rest = dict(params)
        found = self._entries.complete(rest)
        for name in rest:
            if (strict and name not in known) or "." in name or name.startswith("one_minus_"):
                raise InvalidArgument(self._unknown(name, known))
        return found | rest

    def grid(self, n: int) -> dict[str, list[Any]]:
        """Return a grid by trial name, as `optuna.samplers.GridSampler` takes it.

        Args:
            n: Points of a numeric range, both ends included, evenly spaced on its own scale
                (fewer where whole numbers coincide). Categorical parameters give every choice.

        Raises:
            InvalidArgument: If ``n`` is below 2 or the space is conditional.

        Example:
            >>> SearchSpace({"width": (16, 64), "bias": [True, False]}).grid(3)
            {'width': [16, 40, 64], 'bias': [True, False]}
        """
        if n < 2:
            raise InvalidArgument(f"`n` must be at least 2, to hold both ends, got {n!r}")
        if self.conditional:
            raise InvalidArgument(
                "`grid` needs a space without choices, since GridSampler would cross the "
                f"parameters of branches that exclude each other, got {list(self.distributions())}"
            )
        return {
            entry.trial_name(name): entry.grid(n)
            for name, entry in self._entries.named
            if isinstance(entry, Range)
        }

    def override(self, /, **changes: Any) -> Self:
        """Return a space with some parameters changed, in trainer units.

        What a change means depends on its value:

        - a tuple (low, high) narrows or widens a range and keeps its type, its step and its scale
          (log or 1 - value); a fixed value becomes a linear range. A third item, "log" or "linear",
          names the scale; of a range sampled as 1 - value, "log" is the scale that it has;
        - a list makes the parameter categorical; for a choice, it keeps those branches;
        - an Optuna distribution is taken as it is, in trainer units;
        - anything else fixes the parameter; for a choice, it keeps that branch's parameters as
          the space's own.

        A default outside its new range moves to the nearest end; outside a new list, to the
        first choice. A prior stays where the scale does and its median is still inside, and goes
        otherwise.

        Args:
            **changes: New values by name; a branch's parameter is reached as
                ``**{"adam.lr": (1e-4, 1e-3)}``.

        Raises:
            InvalidArgument: If a name is not in the space, or a value breaks a rule above.
            InvalidType: If a value is of none of these types.

        Warns:
            UserWarning: If a range becomes a linear one over three decades or more.

        Example:
            >>> space = SearchSpace({"lr": (1e-4, 1e-2), "eps": 1e-8})
            >>> space.override(lr=1e-3, eps=(1e-9, 1e-7, "log"))
            SearchSpace(
              lr = 0.001
              eps: 1e-09 .. 1e-07 (log scale), default 1e-08
            )
        """
        known = self._entries.addresses()
        for name in changes:
            one_of("override", name, known)
        return self._of(self._entries.override(changes))

    def fixed(self, /, **params: Any) -> Self:
        """Return a space in which every range is fixed, at the value given or else at its default.

        A choice that is given keeps that branch alone; one that is not stays open, each branch at
        its own defaults.

        Args:
            **params: Values by name, in trainer units; names that the space lacks are passed over.

        Raises:
            InvalidArgument: If a choice has no such branch.

        Example:
            >>> space = SearchSpace({"lr": (1e-4, 1e-2), "size": (4, 8), "eps": 1e-8})
            >>> space.fixed(lr=1e-3, other=1)
            SearchSpace(
              lr = 0.001
              size = 6
              eps = 1e-08
            )
        """
        choices = {
            name: params[name]
            for name, entry in self._entries.named
            if isinstance(entry, Choice) and name in params
        }
        settled = self.override(**choices)
        defaults = settled._entries.settled()
        return settled.override(**{name: params.get(name, v) for name, v in defaults.items()})

    def without(self, names: Collection[str]) -> Self:
        """Return the space without some of its parameters; names that it lacks are passed over.

        Example:
            >>> SearchSpace({"lr": (1e-4, 1e-2), "eps": 1e-8}).without(["eps", "betas"])
            SearchSpace(
              lr: 0.0001 .. 0.01, default 0.00505
            )
        """
        kept = {name: entry for name, entry in self._entries.named if name not in names}
        return self._of(Entries.of(kept))

    def __or__(self, other: SearchSpace | Mapping[str, Any]) -> Self:
        """Return both spaces as one; a name in both must mean the same in both.

        Of such a name the left space's source and prior are kept.

        Raises:
            InvalidArgument: If a name means different things in the two.

        Example:
            >>> SearchSpace({"lr": (1e-4, 1e-2, "log")}) | {"hidden": (16, 64)}
            SearchSpace(
              lr: 0.0001 .. 0.01 (log scale), default 0.001
              hidden: 16 .. 64, default 40
            )
        """
        if not isinstance(other, SearchSpace | Mapping):
            return NotImplemented
        mine = self._entries.as_dict()
        for name, entry in as_space("other", other)._entries.named:
            if _meaning(mine.setdefault(name, entry)) != _meaning(entry):
                both = " and ".join("; ".join(each.lines(name)) for each in (mine[name], entry))
                raise InvalidArgument(
                    f"{name!r} means different things in the two spaces: {both}. To change a range "
                    f"of a space, use `space.override({name}=...)`."
                )
        return self._of(Entries.of(mine))

    def __ror__(self, other: Mapping[str, Any]) -> SearchSpace:
        return SearchSpace(other) | self if isinstance(other, Mapping) else NotImplemented

    def to_dict(self) -> dict[str, Any]:
        """Return the space as JSON-able values, for `from_dict`."""
        return self._entries.to_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the space that `to_dict` wrote.

        Raises:
            InvalidArgument: If ``values`` is not what `to_dict` writes.

        Example:
            >>> space = SearchSpace({"lr": (1e-4, 1e-2)})
            >>> SearchSpace.from_dict(space.to_dict()) == space
            True
        """
        try:
            return cls._of(read_entries(values))
        except InvalidArgument:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(
                f"`values` must be what `SearchSpace.to_dict` writes, got {values!r}"
            ) from error

    def __repr__(self) -> str:
        lines = self._entries.lines()
        more = [f"… {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        shown = [*lines[:_MOST_LINES], *more]
        return "\n".join(["SearchSpace(", *(f"  {line}" for line in shown), ")"])

    def _in_one_line(self) -> str:
        return ", ".join(self.trainer_names())

    def _parts(self) -> list[str | TextTable]:
        rows = self._entries.rows()
        # Most spaces of a user's own have no sources.
        n_columns = 5 if any(row[4] for row in rows) else 4
        head = ["parameter", "range", "scale", "default", "source"]
        table = [row[:n_columns] for row in rows]
        return [TextTable(head[:n_columns], table, width=_MOST_CHARS)]

    @classmethod
    def _of(cls, entries: Entries) -> Self:
        space = cls.__new__(cls)
        object.__setattr__(space, "_entries", entries)
        return space

    @cached_property
    def _by_trial_name(self) -> dict[str, TrialParameter]:
        return {each.trial_name: each for each in self._entries.parameters()}

    def _check_trainer_name(self, name: str) -> None:
        known = self._entries.trainer_names()
        if name in self._by_trial_name and name not in known:
            raise InvalidArgument(
                f"`params` must have {self.trainer_name(name)!r}, got {name!r}, the name that "
                "trials store: `from_trial` turns a trial's params into the trainer's."
            )
        one_of("params", name, known)

    def _unknown(self, name: str, besides: Collection[str] = ()) -> str:
        """Return what to say of a name that the space, or the branch that was chosen, lacks."""
        rule = f"`params` must hold parameters of the search space, got {name!r}"
        mine = [*self._by_trial_name, *self._entries.trainer_names()]
        if name in mine:
            choices = [each for each, entry in self._entries.named if isinstance(entry, Choice)]
            return (
                f"{rule}, which belongs to a branch of {', '.join(map(repr, choices))} that was "
                "not chosen: give the choice with it"
            )
        meant = meant_name(name, [*mine, *besides])
        if meant is not None:
            return f"{rule}, which it has not. Did you mean {meant!r}?"
        tuned = ", ".join(map(repr, self.distributions())) or "nothing"
        return f"{rule}, which it has not: {tuned} are tuned"

    def _missing(self, name: str, given: Mapping[str, Any]) -> str:
        """Return what to say where a trial's params lack one of the space's."""
        rule = f"`trial_params` must have {name!r}"
        trainer_name = self.trainer_name(name)
        if trainer_name in given and trainer_name not in self._by_trial_name:
            return (
                f"{rule}, got {trainer_name!r}, the trainer's name for it: these are trainer "
                "params already, use them as they are."
            )
        unknown = [each for each in given if each not in self._by_trial_name]
        near = get_close_matches(name, unknown, n=1, cutoff=0.5)
        return f"{rule}, which is missing{f', got {near[0]!r} in its place' if near else ''}."


UNKNOWN_SPACE = SearchSpace({})
"""What the names of trials are read by where no space is known: each is the trainer's own."""


def as_space(argument: str, value: Any) -> SearchSpace:
    """Return a search space that was given as one or as a dict of ranges.

    Args:
        argument: The argument's name, for the message.
        value: What came.

    Raises:
        InvalidType: If it is neither.
        InvalidArgument: If the dict breaks a rule of `SearchSpace`.

    Example:
        >>> as_space("search_space", {"lr": (1e-4, 1e-2, "log")})
        SearchSpace(
          lr: 0.0001 .. 0.01 (log scale), default 0.001
        )
    """
    if isinstance(value, SearchSpace):
        return value
    if isinstance(value, Mapping):
        return SearchSpace(value)
    raise InvalidType(
        f"`{argument}` must be a SearchSpace or a dict of ranges such as "
        f'{{"lr": (1e-4, 1e-2, "log")}}, got {type(value).__name__}.'
    )


def named_space(
    argument: str,
    name: str | Sequence[str],
    known: Collection[str],
    space: Callable[[str], SearchSpace],
) -> SearchSpace:
    """Return the space of a known name, or the choice among several.

    Args:
        argument: What is chosen, ``"optimizer"`` or ``"schedule"``.
        name: A name, or a sequence of names.
        known: The known names.
        space: Makes the space of a name.

    Raises:
        InvalidArgument: If a name is unknown, or a sequence is empty or repeats a name.
        InvalidType: If ``name`` is neither a string nor a sequence.
    """
    if isinstance(name, str):
        return space(one_of(argument, name, known))
    if not isinstance(name, list | tuple):
        raise InvalidType(
            f"`{argument}` must be a name or a list of names, got {type(name).__name__}"
        )
    names = [one_of(argument, each, known) for each in name]
    if not names or len(set(names)) < len(names):
        raise InvalidArgument(f"`{argument}` must list each name once, got {list(name)!r}")
    return SearchSpace.choice(argument, {each: space(each) for each in names})


def _meaning(entry: Entry) -> Entry:
    """Return an entry without its source and its prior, which decide no trial's meaning."""
    return replace(entry, source="", prior=None) if isinstance(entry, Range) else entry


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidType(f"a parameter's name must be a string, got {type(name).__name__}")
    if not name:
        raise InvalidArgument("a parameter's name must not be empty, got ''")
    check_text("a parameter's name", name, is_new=False)
    return name


def _entry(name: str, spec: Any, defaults: Mapping[str, Any], source: str, near_one: bool) -> Entry:
    if not near_one and not is_spec(spec):
        return Fixed.at(name, spec)
    entry = (
        Range.near_one(name, spec, source)
        if near_one
        else Range.between(make_distribution(name, spec), source)
    )
    return entry.with_default(name, defaults[name]) if name in defaults else entry


def _branch(name: str, key: Any, branch: Any) -> Entries:
    space = as_space(f"branches[{key!r}]", branch)
    if not isinstance(key, str) or not key or "." in key:
        raise InvalidArgument(f"a branch of {name!r} must be named without '.', got {key!r}")
    entries = space._entries.as_dict()
    if entries.pop(name, Fixed(key)) != Fixed(key):
        raise InvalidArgument(f"{name!r} is the choice's own name, got it in branch {key!r} too")
    return Entries.of(entries)
