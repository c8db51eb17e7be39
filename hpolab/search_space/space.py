"""The search space: names, ranges, defaults and sources, on Optuna's own distributions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)

from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.entries import (
    Entry,
    Fixed,
    Range,
    make_distribution,
    make_fixed,
    merge,
    refuse_both,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from optuna.trial import BaseTrial

    from hpolab.search_space.entries import Draw

__all__ = ["SearchSpace", "named_space"]


@dataclass(frozen=True, init=False, repr=False)
class SearchSpace:
    """A frozen set of named ranges, fixed values and choices with their own parameters.

    A space speaks two languages. *Trainer params* are what training code reads: ``{"beta2":
    0.999}``. *Trial params* are what Optuna samples and stores: decay rates near one are held as
    ``one_minus_beta2`` on a log scale, and a choice's parameters carry its branch's name,
    ``adam.lr``, so that no two branches share a distribution. `suggest` and `from_trial` go from
    trial to trainer; `to_trial` goes back.

    Two spaces are equal if they hold the same entries in the same order: the order is the one in
    which a trial's parameters are drawn, so it is part of what a seed reproduces.

    Args:
        parameters: By name, one of: an Optuna distribution, taken as it is; a tuple (low, high),
            whole numbers if both ends are ints and floats otherwise; a list of choices; or a
            fixed None, bool, number or string.
        defaults: Defaults in trainer units, by name of a range. Without one, the middle of the
            range on its own scale, or the first choice.
        sources: Where a range comes from, by name.
        one_minus: Names whose trial holds 1 - value on a log scale. Their range is a tuple of
            floats in [0, 1), in trainer units.

    Raises:
        InvalidArgument: If a range or a list of choices is empty, a default lies outside its
            range, two names meet, or ``defaults``, ``sources`` or ``one_minus`` name no range.
        InvalidType: If a parameter is none of the above.

    Example:
        >>> import optuna
        >>> from optuna.distributions import FloatDistribution
        >>> space = SearchSpace(
        ...     {
        ...         "lr": FloatDistribution(1e-4, 1e-2, log=True),
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

    _entries: tuple[tuple[str, Entry], ...]

    @checks_keywords()
    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any] | None = None,
        sources: Mapping[str, str] | None = None,
        one_minus: Collection[str] = (),
    ) -> None:
        defaults, sources = defaults or {}, sources or {}
        entries = {
            _name(name): _entry(name, spec, defaults, sources.get(name, ""), name in one_minus)
            for name, spec in parameters.items()
        }
        ranges = [name for name, entry in entries.items() if isinstance(entry, Range)]
        for argument, names in [
            ("defaults", defaults),
            ("sources", sources),
            ("one_minus", one_minus),
        ]:
            for name in names:
                one_of(argument, name, ranges)
        self._fill(entries)

    @classmethod
    def choice(cls, name: str, branches: Mapping[str, SearchSpace]) -> Self:
        """Return a space in which the choice among other spaces is itself a parameter.

        The trial holds the choice under ``name`` and a branch's parameters as ``branch.parameter``;
        the trainer sees ``name`` and the chosen branch's parameters without the prefix. The default
        is the first branch with its defaults.

        Args:
            name: The choice's name, such as ``"optimizer"``.
            branches: The spaces by the value that selects them. A branch may fix ``name`` at its
                own value, as `optimizer_space` does.

        Raises:
            InvalidArgument: If there is no branch, a branch's name is not usable, or a branch uses
                ``name`` for something else.
            InvalidType: If a branch is not a search space.

        Example:
            >>> space = SearchSpace.choice(
            ...     "model",
            ...     {"linear": SearchSpace({}), "mlp": SearchSpace({"hidden": (16, 64)})},
            ... )
            >>> list(space.distributions())
            ['model', 'mlp.hidden']
            >>> space.from_trial({"model": "mlp", "mlp.hidden": 32})
            {'model': 'mlp', 'hidden': 32}
        """
        if not branches:
            raise InvalidArgument(f"`branches` must not be empty, got {branches!r} for {name!r}")
        return cls._of(
            {_name(name): Choice(tuple((k, _branch(name, k, b)) for k, b in branches.items()))}
        )

    @property
    def conditional(self) -> bool:
        """Whether some parameters exist in some trials only."""
        return any(isinstance(entry, Choice) for _, entry in self._entries)

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Return trainer params, fixed values included, drawn from a trial.

        Args:
            trial: A `Trial`, a `FixedTrial` or a `FrozenTrial`.

        Example:
            >>> from optuna.trial import FixedTrial
            >>> space = SearchSpace({"rho": (0.5, 0.999), "epochs": 10}, one_minus=["rho"])
            >>> space.suggest(FixedTrial({"one_minus_rho": 0.1}))
            {'rho': 0.9, 'epochs': 10}
        """

        def draw(name: str, d: BaseDistribution) -> Any:
            if isinstance(d, FloatDistribution):
                return trial.suggest_float(name, d.low, d.high, log=d.log, step=d.step)
            if isinstance(d, IntDistribution):
                return trial.suggest_int(name, d.low, d.high, log=d.log, step=d.step)
            assert isinstance(d, CategoricalDistribution)
            return trial.suggest_categorical(name, d.choices)

        return self._draw(draw)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distributions by trial name, those of every branch included.

        ``study.ask(space.distributions())`` samples the whole space at once; for a conditional
        space that would draw every branch, so use `suggest` there.
        """
        return merge(entry.distributions(name) for name, entry in self._entries)

    def defaults(self) -> dict[str, Any]:
        """Return the default configuration in trainer units, fixed values included."""
        return merge(entry.defaults(name) for name, entry in self._entries)

    def sources(self) -> dict[str, str]:
        """Return where each range comes from; a branch's parameter is named ``branch.name``."""
        return merge(entry.sources(name) for name, entry in self._entries)

    def to_trial(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `Study.enqueue_trial` takes for a trainer's params.

        Args:
            params: A value for each parameter of the space (of the chosen branch only); fixed
                values may be left out.

        Raises:
            InvalidArgument: If a value is outside its range, differs from a fixed value, is
                missing, or belongs to no parameter.

        Example:
            >>> SearchSpace({"beta1": (0.8, 0.95)}, one_minus=["beta1"]).to_trial({"beta1": 0.9})
            {'one_minus_beta1': 0.1}
        """
        rest = dict(params)
        taken = self._take(rest)
        for name in rest:
            one_of("params", name, params.keys() - rest.keys())
        return taken

    def from_trial(self, trial_params: Mapping[str, Any]) -> dict[str, Any]:
        """Return trainer params, fixed values included, for what a trial stored.

        Args:
            trial_params: ``trial.params``; names of other spaces are passed over, and values are
                taken as they are, so that trials of a wider space can still be read.

        Raises:
            InvalidArgument: If a parameter of the space is missing, or a choice names no branch.
        """

        def draw(name: str, _: BaseDistribution) -> Any:
            if name not in trial_params:
                raise InvalidArgument(f"`trial_params` must have {name!r}, which is missing")
            return trial_params[name]

        return self._draw(draw)

    def complete(self, params: Mapping[str, Any], *, strict: bool = False) -> dict[str, Any]:
        """Return trainer params for what a trial stored or a trainer reads, fixed values filled in.

        Args:
            params: A trial's params, which must be whole, or the trainer's, of which ranges may be
                left out: the trainer has defaults of its own. Values are taken as they are.
            strict: Whether names that the space lacks are refused; else they are passed on. A
                trial's name of another space is refused in any case.

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
        if params.keys() & (self.distributions().keys() - self._names()):
            self.from_trial(params)  # a trial's, so nothing may be missing
        rest = dict(params)
        found = self._complete(rest)
        for name in rest:
            if strict or "." in name or name.startswith("one_minus_"):
                raise InvalidArgument(
                    f"`params` must hold parameters of the search space, got {name!r}, which it "
                    f"has not: {', '.join(map(repr, self.distributions())) or 'nothing'} are tuned"
                )
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
            for name, entry in self._entries
            if isinstance(entry, Range)
        }

    def override(self, /, **changes: Any) -> Self:
        """Return a space with some parameters changed, in trainer units.

        What a change means depends on its value:

        - a tuple (low, high) narrows or widens a range and keeps its type, its step and its scale
          (log or 1 - value); a fixed value becomes a linear range;
        - a list makes the parameter categorical; for a choice, it keeps those branches;
        - an Optuna distribution is taken as it is, in trainer units;
        - anything else fixes the parameter; for a choice, it keeps that branch's parameters as
          the space's own.

        A default outside its new range moves to the nearest end; outside a new list, to the
        first choice.

        Args:
            **changes: New values by name; a branch's parameter is reached as
                ``**{"adam.lr": (1e-4, 1e-3)}``.

        Raises:
            InvalidArgument: If a name is not in the space, or a value breaks a rule above.
            InvalidType: If a value is of none of these types.

        Example:
            >>> space = SearchSpace({"lr": (1e-4, 1e-2), "eps": 1e-8})
            >>> space.override(lr=1e-3, eps=(1e-9, 1e-7))
            SearchSpace(
              lr = 0.001
              eps: 1e-09 .. 1e-07, default 1e-08
            )
        """
        known = self._addresses()
        for name in changes:
            one_of("override", name, known)
        return self._of(merge(entry.override(name, changes) for name, entry in self._entries))

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
            for name, entry in self._entries
            if isinstance(entry, Choice) and name in params
        }
        settled = self.override(**choices)
        defaults = settled._default_of_each()
        return settled.override(**{name: params.get(name, v) for name, v in defaults.items()})

    def without(self, names: Collection[str]) -> Self:
        """Return the space without some of its parameters; names that it lacks are passed over.

        Example:
            >>> SearchSpace({"lr": (1e-4, 1e-2), "eps": 1e-8}).without(["eps", "betas"])
            SearchSpace(
              lr: 0.0001 .. 0.01, default 0.00505
            )
        """
        return self._of({name: entry for name, entry in self._entries if name not in names})

    def __or__(self, other: SearchSpace) -> Self:
        """Return both spaces as one; a name in both must mean the same in both.

        Raises:
            InvalidArgument: If a name means different things in the two.
        """
        if not isinstance(other, SearchSpace):
            return NotImplemented
        mine = dict(self._entries)
        for name, entry in other._entries:
            if mine.setdefault(name, entry) != entry:
                raise InvalidArgument(
                    f"{name!r} means different things in the two spaces: "
                    f"{'; '.join(mine[name].lines(name))} and {'; '.join(entry.lines(name))}"
                )
        return self._of(mine)

    def to_dict(self) -> dict[str, Any]:
        """Return the space as JSON-able values, for `from_dict`."""
        return {"parameters": [{"name": name, **entry.to_dict()} for name, entry in self._entries]}

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
            return cls._of({row["name"]: _read(row) for row in values["parameters"]})
        except InvalidArgument:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(
                f"`values` must be what `SearchSpace.to_dict` writes, got {values!r}"
            ) from error

    def __repr__(self) -> str:
        lines = self._lines()
        return "\n".join(["SearchSpace(", *(f"  {line}" for line in lines), ")"])

    @classmethod
    def _of(cls, entries: Mapping[str, Entry]) -> Self:
        space = cls.__new__(cls)
        space._fill(entries)
        return space

    def _fill(self, entries: Mapping[str, Entry]) -> None:
        seen: set[str] = set()
        for name, entry in entries.items():
            taken = {*entry.names(name), *entry.addresses(name), *entry.distributions(name)}
            if seen & taken:
                raise InvalidArgument(
                    f"a name must mean one thing in a space, got {min(seen & taken)!r} twice, "
                    f"the second time from {name!r}"
                )
            seen |= taken
        object.__setattr__(self, "_entries", tuple(entries.items()))

    def _names(self) -> set[str]:
        return {trainer for name, entry in self._entries for trainer in entry.names(name)}

    def _addresses(self) -> list[str]:
        return [address for name, entry in self._entries for address in entry.addresses(name)]

    def _default_of_each(self) -> dict[str, Any]:
        """Return the default of every parameter but the choices, by its address in `override`."""
        defaults: dict[str, Any] = {}
        for name, entry in self._entries:
            if isinstance(entry, Choice):
                for key, branch in entry.branches:
                    for below, default in branch._default_of_each().items():
                        defaults[f"{key}.{below}"] = default
            else:
                defaults |= entry.defaults(name)
        return defaults

    def _draw(self, draw: Draw) -> dict[str, Any]:
        return merge(entry.draw(name, draw) for name, entry in self._entries)

    def _take(self, params: dict[str, Any]) -> dict[str, Any]:
        return merge(entry.take(name, params) for name, entry in self._entries)

    def _complete(self, params: dict[str, Any]) -> dict[str, Any]:
        return merge(entry.complete(name, params) for name, entry in self._entries)

    def _lines(self) -> list[str]:
        return [line for name, entry in self._entries for line in entry.lines(name)]


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


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidType(f"a parameter's name must be a string, got {type(name).__name__}")
    if not name:
        raise InvalidArgument("a parameter's name must not be empty, got ''")
    return name


def _entry(
    name: str, spec: Any, defaults: Mapping[str, Any], source: str, one_minus: bool
) -> Entry:
    if not one_minus and not isinstance(spec, BaseDistribution | tuple | list):
        return make_fixed(name, spec)
    entry = (
        Range.near_one(name, spec, source)
        if one_minus
        else Range.between(make_distribution(name, spec), source)
    )
    return entry.with_default(name, defaults[name]) if name in defaults else entry


def _branch(name: str, key: Any, branch: Any) -> SearchSpace:
    if not isinstance(branch, SearchSpace):
        raise InvalidType(
            f"a branch of {name!r} must be a SearchSpace, got {type(branch).__name__} for {key!r}"
        )
    if not isinstance(key, str) or not key or "." in key:
        raise InvalidArgument(f"a branch of {name!r} must be named without '.', got {key!r}")
    entries = dict(branch._entries)
    if entries.pop(name, Fixed(key)) != Fixed(key):
        raise InvalidArgument(f"{name!r} is the choice's own name, got it in branch {key!r} too")
    return SearchSpace._of(entries)


def _read(row: Mapping[str, Any]) -> Entry:
    kind = one_of("kind", row["kind"], ["choice", "fixed", "range"])
    if kind == "fixed":
        return Fixed(row["value"])
    if kind == "choice":
        return Choice(tuple((b["value"], SearchSpace.from_dict(b)) for b in row["branches"]))
    distribution = json_to_distribution(json.dumps(row["distribution"]))
    return Range(distribution, row["default"], row["source"], row["one_minus"])


@dataclass(frozen=True)
class Choice(Entry):
    """A categorical parameter whose value decides which other parameters exist.

    Attributes:
        branches: Each value with the space that it brings; the first is the default.
    """

    branches: tuple[tuple[str, SearchSpace], ...]

    def branch(self, name: str, key: Any) -> SearchSpace:
        """Return the space that ``key`` brings."""
        branches = dict(self.branches)
        return branches[one_of(name, key, branches)]

    def names(self, name: str) -> set[str]:
        return {name}.union(*(branch._names() for _, branch in self.branches))

    def addresses(self, name: str) -> list[str]:
        return [name, *(f"{k}.{a}" for k, branch in self.branches for a in branch._addresses())]

    def distributions(self, name: str) -> dict[str, BaseDistribution]:
        return merge(
            [{name: self._distribution()}]
            + [_prefixed(key, branch.distributions()) for key, branch in self.branches]
        )

    def defaults(self, name: str) -> dict[str, Any]:
        key, branch = self.branches[0]
        return {name: key, **branch.defaults()}

    def sources(self, name: str) -> dict[str, str]:
        return merge(_prefixed(key, branch.sources()) for key, branch in self.branches)

    def draw(self, name: str, draw: Draw) -> dict[str, Any]:
        key = draw(name, self._distribution())
        branch = self.branch(name, key)
        return {name: key, **branch._draw(lambda n, d: draw(f"{key}.{n}", d))}

    def take(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            raise InvalidArgument(f"`params` must have {name!r}, which is missing")
        key = params.pop(name)
        return {name: key, **_prefixed(key, self.branch(name, key)._take(params))}

    def complete(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            return {}
        key = params.pop(name)
        branch = self.branch(name, key)
        for below, value in _below(key, params).items():
            refuse_both(params, f"{key}.{below}", below)
            params[below] = value
            del params[f"{key}.{below}"]
        return {name: key, **branch._complete(params)}

    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        branches = {key: branch.override(**_below(key, changes)) for key, branch in self.branches}
        kept = changes.get(name, list(branches))
        if isinstance(kept, list):
            if not kept or len(set(kept)) < len(kept):
                raise InvalidArgument(
                    f"a choice must keep branches once, got {kept!r} for {name!r}"
                )
            return {name: Choice(tuple((one_of(name, k, branches), branches[k]) for k in kept))}
        return {name: Fixed(one_of(name, kept, branches)), **dict(branches[kept]._entries)}

    def to_dict(self) -> dict[str, Any]:
        branches = [{"value": key, **branch.to_dict()} for key, branch in self.branches]
        return {"kind": "choice", "branches": branches}

    def lines(self, name: str) -> list[str]:
        keys = " | ".join(repr(key) for key, _ in self.branches)
        return [f"{name}: {keys}, default {self.branches[0][0]!r}"] + [
            f"  {key}.{line}" for key, branch in self.branches for line in branch._lines()
        ]

    def _distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution([key for key, _ in self.branches])


def _prefixed(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{key}.{name}": value for name, value in values.items()}


def _below(key: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(f"{key}."): value
        for name, value in changes.items()
        if name.startswith(f"{key}.")
    }
