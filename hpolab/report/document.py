"""Turns a study, a comparison, a confirmation or a sweep into a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna import Study

from hpolab.analysis.comparison import Comparison
from hpolab.analysis.confirmation import Confirmation
from hpolab.analysis.trained.sweep import Sweep
from hpolab.errors import InvalidType
from hpolab.report.comparison import comparison_document
from hpolab.report.confirmation import confirmation_document
from hpolab.report.study import study_document
from hpolab.report.sweep import sweep_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.report.blocks import Document

__all__ = ["document_of"]


def document_of(source: Any, prefixes: Mapping[str, str | None] | None = None) -> Document:
    """Return the report of a study, a comparison, a confirmation or a sweep.

    Args:
        source: One of these.
        prefixes: What the trainer's command calls a study's parameters.

    Raises:
        InvalidType: If ``source`` is none of them.
    """
    if isinstance(source, Study):
        return study_document(source, prefixes)
    if isinstance(source, Comparison):
        return comparison_document(source)
    if isinstance(source, Confirmation):
        return confirmation_document(source)
    if isinstance(source, Sweep):
        return sweep_document(source)
    raise InvalidType(
        "`source` must be a study, a Comparison, a Confirmation or a Sweep, got "
        f"{type(source).__name__}."
    )
