"""Muon for the hidden weights and AdamW for the rest, as one torch optimizer.

Imports torch when it is imported, so it is imported only where an optimizer is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MuonWithAdamW", "hidden_weights"]


class MuonWithAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` and `torch.optim.AdamW` behind one optimizer's interface.

    Both work on this optimizer's own groups and state, so that ``zero_grad``, a learning-rate
    scheduler and ``state_dict`` see one optimizer with Muon's parameter groups, then AdamW's.

    Args:
        hidden: The parameter groups that Muon trains, of matrices only.
        rest: The parameter groups that AdamW trains.
        muon: Keyword arguments of `torch.optim.Muon`.
        adamw: Keyword arguments of `torch.optim.AdamW`.
    """

    def __init__(
        self,
        hidden: list[dict[str, Any]],
        rest: list[dict[str, Any]],
        *,
        muon: Mapping[str, Any],
        adamw: Mapping[str, Any],
    ) -> None:
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, **muon),
            torch.optim.AdamW(rest, **adamw),
        ]
        self._n_hidden = len(hidden)
        super().__init__([g for part in self._parts for g in part.param_groups], defaults={})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step of both, after ``closure`` if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        n_hidden = self._n_hidden
        groups = [self.param_groups[:n_hidden], self.param_groups[n_hidden:]]
        for part, own in zip(self._parts, groups, strict=True):
            # load_state_dict and unpickling put new groups and a new state here; the parts must
            # not go on with the old ones.
            part.param_groups, part.state = own, self.state
            part.step()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts, "_n_hidden": self._n_hidden}


def hidden_weights(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the trainable 2-D weights between a model's embeddings and its output layer.

    Muon is meant for these alone: embeddings and the output layer are matrices too, but are to be
    trained by AdamW (https://github.com/KellerJordan/Muon). The output layer is taken to be
    the last 2-D weight in the order of ``model.parameters()``.
    """
    lookup = torch.nn.Embedding | torch.nn.EmbeddingBag
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, lookup)}
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in embeddings]
    return [p for p in matrices[:-1] if p.requires_grad]
