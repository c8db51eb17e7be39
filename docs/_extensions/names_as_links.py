"""Public names in text and in type hints become links: ours to the reference, Optuna's to its own.

Docstrings call things by the names that they import, ``Study`` or ``SearchSpace``; Sphinx looks for
``optuna.Study`` and ``hpolab.SearchSpace``. Inventories of other projects (intersphinx) would have
to be fetched at each build, so that Optuna's few names stand here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

import hpolab

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

_OPTUNA = "https://optuna.readthedocs.io/en/stable/reference"
_OPTUNA_PAGES = {
    "BaseDistribution": "distributions.html",
    "BasePruner": "generated/optuna.pruners.BasePruner.html",
    "BaseSampler": "samplers/generated/optuna.samplers.BaseSampler.html",
    "BaseStorage": "storages.html",
    "BaseTrial": "trial.html",
    "FixedTrial": "generated/optuna.trial.FixedTrial.html",
    "FrozenTrial": "generated/optuna.trial.FrozenTrial.html",
    "Study": "generated/optuna.study.Study.html",
    "Study.enqueue_trial": "generated/optuna.study.Study.html#optuna.study.Study.enqueue_trial",
    "Trial": "generated/optuna.trial.Trial.html",
    "TrialPruned": "generated/optuna.TrialPruned.html",
}
# `run`, `run(...)` and `run(study, objective, n_trials=70)` all speak of `run`.
_NAME = re.compile(r"(?:hpolab\.)?([A-Za-z]\w*(?:\.[a-z]\w*)?)(?:\([^()]*\))?")
# As a word of code these are arguments or other things more often than the function.
_AMBIGUOUS = {"average", "influence", "run", "sweep", "recommend", "confirm", "compare"}


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    app.connect("missing-reference", _resolve_short_name)
    app.add_transform(_LinkCode)
    return {"version": hpolab.__version__, "parallel_read_safe": True}


class _LinkCode(SphinxTransform):
    """Code in the pages' text that is a public name becomes a reference to it."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """See docutils."""
        if self.env.docname == "changelog":
            return
        for code in list(self.document.findall(nodes.literal)):
            name = public_name(code.astext())
            if name is None or _is_linked(code):
                continue
            reference = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=f"hpolab.{name}", refexplicit=True
            )
            code.replace_self(reference)
            reference += code


def public_name(text: str) -> str | None:
    """Return the public name that a piece of code speaks of, with its method if it has one.

    >>> public_name("run(study, n_trials=7)"), public_name("Objective.fit_best"), public_name("x")
    ('run', 'Objective.fit_best', None)
    """
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    name = match.group(1)
    root, _, member = name.partition(".")
    if root not in hpolab.__all__ or (root in _AMBIGUOUS and "(" not in text):
        return None
    return name if not member or hasattr(getattr(hpolab, root), member) else None


def _is_linked(node: nodes.Node) -> bool:
    """Tell whether a piece of code stands in a link, a title or a signature already."""
    parent = node.parent
    while parent is not None:
        if isinstance(parent, (nodes.reference, pending_xref, nodes.title)):
            return True
        parent = parent.parent
    return False


def _resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node
) -> nodes.Node | None:
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"]).removeprefix("~")
    python = env.domains.python_domain
    for name in (target, target.rpartition(".")[2]):
        if (entry := python.objects.get(f"hpolab.{name}")) is not None:
            from sphinx.util.nodes import make_refnode

            return make_refnode(
                app.builder, node["refdoc"], entry.docname, entry.node_id, content, name
            )
        if name in _OPTUNA_PAGES:
            url = f"{_OPTUNA}/{_OPTUNA_PAGES[name]}"
            return nodes.reference("", "", content, internal=False, refuri=url)
    return None
