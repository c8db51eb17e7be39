"""Studies that prune, resume exactly and stay in budget, on top of Optuna."""

from hpolab.copying import copy_study
from hpolab.reporter import Reporter
from hpolab.run import run
from hpolab.study import load_study, make_study

__all__ = ["Reporter", "copy_study", "load_study", "make_study", "run"]
