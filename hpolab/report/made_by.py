"""How a study was made: its recipe, the facts that its values depend on, and versions."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from hpolab.report.blocks import Details, FieldList, Section, Text
from hpolab.studies.facts import stored_facts

if TYPE_CHECKING:
    from hpolab.report.blocks import Block
    from hpolab.report.reading import Reading

__all__ = ["facts_blocks", "made_by", "recipe_blocks"]


def made_by(reading: Reading) -> Section:
    """Return how a study was made."""
    blocks = [*recipe_blocks(reading), *facts_blocks(reading)]
    return Section("recipe", "How it was made", blocks)


def recipe_blocks(reading: Reading) -> list[Block]:
    """Return what made a study, and the versions that wrote the report."""
    recipe = reading.recipe
    if recipe is None:
        words = "hpolab did not make this study, so it has no recipe."
        return [Text([words], "note"), FieldList([("report by", _versions_now())])]
    made_by = ", ".join(f"{package} {number}" for package, number in recipe.versions.items())
    rows = [
        ("sampler", str(recipe.sampler)),
        ("pruner", str(recipe.pruner)),
        ("direction", ", ".join(recipe.directions)),
        ("seed", str(recipe.seed)),
        ("made with", made_by),
        ("report by", _versions_now()),
    ]
    blocks: list[Block] = [FieldList(rows)]
    if reading.space is not None:
        blocks.append(Details("Search space", str(reading.space)))
    return blocks


def facts_blocks(reading: Reading) -> list[Block]:
    """Return what a study's values depend on besides its params."""
    facts = stored_facts(reading.user_attrs)
    if not facts:
        return []
    return [Details("What the values depend on", json.dumps(facts, indent=2, ensure_ascii=False))]


def _versions_now() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in ("hpolab", "optuna", "plotly"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
