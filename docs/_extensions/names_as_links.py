"""Public names in text and in type hints become links: ours to the reference, Optuna's to its own.

Docstrings call things by the names that they import, ``Study`` or ``SearchSpace``; Sphinx looks for
``optuna.Study`` and ``hpolab.SearchSpace``. Inventories of other projects (intersphinx) would have
to be fetched at each build, so that Optuna's few names stand here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from places import public_name
from sphinx.addnodes import desc, desc_parameter, desc_signature, pending_xref
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


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    app.connect("missing-reference", _resolve_short_name)
    app.add_transform(_LinkCode)
    app.connect("doctree-read", _unlink_arguments)
    app.connect("autodoc-process-signature", _shorten)
    return {"version": hpolab.__version__, "parallel_read_safe": True}


def _shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str
) -> tuple[str, str] | None:
    """Leave out what stands behind ``**settings``: the docstring lists them, the type is ours."""
    if not signature:
        return None
    return re.sub(r"(\*\*\w+): ~?[\w.]*Unpack\[[^\]]*\]", r"\1", signature), returned


def _unlink_arguments(app: Sphinx, document: nodes.document) -> None:
    """Take the link from what is an argument's name, though a method may be called the same.

    Also from what only looks like an address: NDCG@10, and "http://…".
    """
    for described in document.findall(desc):
        for text in list(described.findall(nodes.Text)):
            if text == " -- ":  # between an argument and its meaning
                text.parent.replace(text, nodes.Text(": "))
        arguments = {
            name.astext().lstrip("*")
            for signature in described.findall(desc_signature)
            for parameter in signature.findall(desc_parameter)
            for name in parameter.findall(nodes.Text)
        }
        for reference in list(described.findall(pending_xref)):
            if reference.get("reftype") == "obj" and reference["reftarget"] in arguments:
                reference.replace_self(reference.children)
    for link in list(document.findall(nodes.reference)):
        if re.match(r"mailto:|https?://$", link.get("refuri", "")):
            link.replace_self(link.children)


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
