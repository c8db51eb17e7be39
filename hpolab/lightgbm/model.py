"""LightGBMModel: a trained booster with the columns and classes that it was trained on."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from hpolab.display import Displayed
from hpolab.errors import DataNotFound, InvalidArgument, one_of
from hpolab.files import replace_file
from hpolab.keywords import checks_keywords
from hpolab.lightgbm.columns import Columns
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["FoldModels", "LightGBMModel"]

# Stands in LightGBM's own model file, before the line that its Python package adds.
_MARK = "hpolab:"
# Rows of the table that a notebook shows.
_MOST_FEATURES = 10


@dataclass(frozen=True, repr=False)
class LightGBMModel(Displayed):
    """A booster that takes data in the form of its training data.

    Attributes:
        booster: The ``lightgbm.Booster``, which sees categories as codes.
        columns: The columns, and the codes of their categories.
        classes: The classes in the order of predicted probabilities; None where labels are
            numbers.
    """

    booster: lgb.Booster
    columns: Columns
    classes: tuple[Any, ...] | None

    def predict(self, features: Any, **options: Any) -> NDArray[np.float64]:
        """Return predictions: (n,), or (n, classes) for more than two classes.

        Args:
            features: Rows of the columns trained on, frames matched by name.
            **options: Further arguments of ``lightgbm.Booster.predict``, such as ``raw_score``.

        Raises:
            InvalidArgument: If columns are missing or too many.
            InvalidType: If a column's type is not understood.
        """
        encoded = self.columns.encode("features", features)
        return np.asarray(self.booster.predict(encoded, **options))

    @checks_keywords()
    def importance(self, kind: str = "gain") -> dict[str, float]:
        """Return the importance of each feature, the largest first: name -> importance.

        Args:
            kind: "gain", the loss that splits on a feature saved, or "split", their number.

        Raises:
            InvalidArgument: If ``kind`` is neither.
        """
        values = self.booster.feature_importance(one_of("kind", kind, ("gain", "split")))
        order = np.argsort(-values, kind="stable")
        return {self.columns.names[i]: float(values[i]) for i in order}

    def save(self, path: str | Path) -> None:
        """Write the model to a file, for `load`.

        It is a model file of LightGBM's, which ``lightgbm.Booster(model_file=path)`` reads as well.
        Written beside, then moved: an earlier model is there until the new one is whole.

        Args:
            path: The file.
        """
        text, tail, rest = self.booster.model_to_string().rpartition("\npandas_categorical:")
        ours = json.dumps({"columns": asdict(self.columns), "classes": self.classes})
        replace_file(path, f"{text}\n{_MARK}{ours}\n{tail}{rest}", durable=True)

    @classmethod
    def load(cls, path: str | Path) -> LightGBMModel:
        """Read a model that `save` wrote.

        Raises:
            DataNotFound: If there is no such file.
            InvalidArgument: If hpolab did not write it.
        """
        if not Path(path).is_file():
            raise DataNotFound(f"`path` must name a file, got {str(path)!r}.")
        text = Path(path).read_text(encoding="utf-8")
        ours = [line for line in text.splitlines() if line.startswith(_MARK)]
        if len(ours) != 1:
            raise InvalidArgument(
                f"`path` must name a model that `save` wrote, got {str(path)!r}; LightGBM's own "
                "are read by `lightgbm.Booster(model_file=path)`."
            )
        stored = json.loads(ours[0].removeprefix(_MARK))
        columns = stored["columns"]
        return cls(
            lgb.Booster(model_str=text),
            Columns(
                names=tuple(columns["names"]),
                categorical=tuple(columns["categorical"]),
                categories={name: tuple(values) for name, values in columns["categories"].items()},
                named=columns["named"],
            ),
            None if stored["classes"] is None else tuple(stored["classes"]),
        )

    def _in_one_line(self) -> str:
        features = f"{self.booster.num_feature()} features"
        rounds = f"{self.booster.current_iteration()} rounds"
        classes = (
            "" if self.classes is None else f", classes {', '.join(map(str, self.classes[:5]))}"
        )
        return f"{rounds}, {features}{classes}{', …' if len(self.classes or ()) > 5 else ''}"

    def _parts(self) -> list[str | TextTable]:
        found = list(self.importance().items())
        total = sum(gain for _, gain in found) or 1.0
        rows = [[str(name), f"{100 * gain / total:.3g} %"] for name, gain in found[:_MOST_FEATURES]]
        note = f"And {len(found) - len(rows)} others." if len(found) > len(rows) else ""
        return [*super()._parts(), TextTable(["feature", "share of the gain"], rows, note=note)]


@dataclass(frozen=True, repr=False)
class FoldModels(Displayed):
    """A model for each fold, and what they predict for the rows they were not trained on.

    Attributes:
        models: One for each fold.
        out_of_fold: Predictions of the training rows, (n,) or (n, classes), each by the model
            that has not seen it; the mean where there are several, NaN where there is none.
        metric: The name of the optimized metric.
        values: Each fold's metrics, name -> value, on its rows. The value of a trial is the mean
            of the optimized one, `mean_value`. A metric of ``out_of_fold`` against all labels is
            another number: an AUC, for one, also ranks rows of different folds against each
            other, which different models have scored.
        rows: Each fold's rows, their places (m,) in `train`.
    """

    models: Sequence[LightGBMModel]
    out_of_fold: NDArray[np.float64]
    metric: str = ""
    values: tuple[Mapping[str, float], ...] = ()
    rows: tuple[NDArray[np.int64], ...] = ()

    @property
    def mean_value(self) -> float:
        """The mean of the optimized metric over the folds: a trial's value, without a `score`."""
        return float(np.mean([each[self.metric] for each in self.values]))

    def importance(self, kind: str = "gain") -> dict[str, float]:
        """Return the mean importance of each feature over the models, the largest first.

        Args:
            kind: As in `LightGBMModel.importance`.
        """
        found = [model.importance(kind) for model in self.models]
        mean = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
        return dict(sorted(mean.items(), key=lambda item: -item[1]))

    def save(self, folder: str | Path) -> None:
        """Write the models to a folder, a file each, with the predictions, for `load`.

        Args:
            folder: The folder; it is made where it is missing.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for i, model in enumerate(self.models):
            model.save(place / f"fold_{i}.txt")
        arrays: dict[str, Any] = {f"rows_{i}": rows for i, rows in enumerate(self.rows)}
        packed = io.BytesIO()
        np.savez(packed, out_of_fold=self.out_of_fold, **arrays)
        replace_file(place / "predictions.npz", packed.getvalue(), durable=True)
        # Last: a folder without it is not whole.
        ours = {"n": len(self.models), "metric": self.metric, "values": self.values}
        replace_file(place / "folds.json", json.dumps(ours), durable=True)

    @classmethod
    def load(cls, folder: str | Path) -> FoldModels:
        """Read the models that `save` wrote.

        Raises:
            DataNotFound: If there are none in the folder.
        """
        place = Path(folder)
        if not (place / "folds.json").is_file():
            raise DataNotFound(
                f"`folder` must be one that `FoldModels.save` wrote, got {str(folder)!r}."
            )
        ours = json.loads((place / "folds.json").read_text(encoding="utf-8"))
        with np.load(place / "predictions.npz", allow_pickle=False) as arrays:
            rows = tuple(arrays[f"rows_{i}"] for i in range(len(arrays.files) - 1))
            out_of_fold = arrays["out_of_fold"]
        models = [LightGBMModel.load(place / f"fold_{i}.txt") for i in range(ours["n"])]
        return cls(models, out_of_fold, ours["metric"], tuple(ours["values"]), rows)

    def predict(self, features: Any) -> NDArray[np.float64]:
        """Return the mean of the models' predictions: (n,) or (n, classes)."""
        parts = [model.predict(features) for model in self.models]
        return np.mean(parts, axis=0)  # type: ignore[no-any-return]

    def _in_one_line(self) -> str:
        return (
            f"{len(self.models)} models, out-of-fold predictions of {len(self.out_of_fold):,} rows"
        )
