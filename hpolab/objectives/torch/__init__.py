"""PyTorch objectives."""

from hpolab.errors import MissingExtra

try:
    import torch as _torch  # noqa: F401
except ImportError:
    raise MissingExtra("`TorchObjective`", "PyTorch", "torch") from None

from hpolab.objectives.torch.objective import TorchObjective

__all__ = ["TorchObjective"]
