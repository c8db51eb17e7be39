"""``hpolab influence`` and ``hpolab recommend``: what a study's trials tell."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hpolab.analysis.trained.confirm import load_confirmation, studies_of_confirmations
from hpolab.commands.shared import StorageOption, StudyArgument, study_of
from hpolab.errors import InvalidArgument
from hpolab.storage.url import DEFAULT_URL, open_storage
from hpolab.studies.study import stored_study

if TYPE_CHECKING:
    from optuna import Study

    from hpolab.analysis.confirmation import Confirmation

__all__ = ["influence", "recommend"]


class RecommendationFormat(StrEnum):
    """How `hpolab recommend` writes what it recommends."""

    text = "text"
    yaml = "yaml"
    json = "json"
    python = "python"
    overrides = "overrides"
    hydra = "hydra"


def influence(
    ctx: typer.Context,
    study_name: StudyArgument = None,
    storage: StorageOption = DEFAULT_URL,
) -> None:
    """Show which parameters have an effect, how large it is, and which values are better.

    **Examples:**

    `hpolab influence demo -s hpolab-demo.db`

    `hpolab influence study.db`
    """
    from hpolab.analysis.influence import influence as influence_of

    study, _ = study_of(ctx, study_name, storage)
    typer.echo(str(influence_of(study)))


def recommend(
    ctx: typer.Context,
    study_name: StudyArgument = None,
    storage: StorageOption = DEFAULT_URL,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="TRIAL|RUN|FILE",
            help="What to compare with: a trial's number, an imported run as the table calls it, "
            "or a YAML file with the parameters. Left out: the default configuration, or the "
            "baseline of an import.",
        ),
    ] = None,
    output: Annotated[
        RecommendationFormat,
        typer.Option(
            "--format",
            "-f",
            help="text to read, the others to load or to paste elsewhere; hydra is the same as "
            "overrides.",
        ),
    ] = RecommendationFormat.text,
) -> None:
    """Recommend the best configuration, a robust one, and one in between, each with its risks.

    If the study was confirmed, the recommendation is from the confirmed configurations.

    **Examples:**

    `hpolab recommend demo -s hpolab-demo.db`

    `hpolab recommend runs --baseline config.yaml -f overrides`
    """
    from hpolab.analysis.recommend import recommend as recommend_from

    study, url = study_of(ctx, study_name, storage)
    compared = None if baseline is None else _baseline(baseline)
    confirmation = _confirmation_of(study, url) if compared is None else None
    found = recommend_from(study, confirmation, baseline=compared)
    if output is RecommendationFormat.text:
        typer.echo(str(found))
    elif output is RecommendationFormat.hydra:  # another word for overrides, which Hydra reads
        typer.echo(found.to_overrides())
    else:
        typer.echo(getattr(found, f"to_{output.value}")())


def _confirmation_of(study: Study, url: str) -> Confirmation | None:
    """Return the finished confirmation of a study; None if there is none, or there are several."""
    opened = open_storage(url, create=False)
    found = []
    for name in studies_of_confirmations(study.study_name, opened):
        with suppress(InvalidArgument):  # it is unfinished
            found.append(load_confirmation(stored_study(name, opened)))
    return found[0] if len(found) == 1 else None


def _baseline(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
