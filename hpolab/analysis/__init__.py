"""What a study is worth: pure functions of trials, and the trainings that they ask for."""

from hpolab.analysis.compare import Comparison, Contender, compare, load_comparison
from hpolab.analysis.confirm import confirm, load_confirmation
from hpolab.analysis.confirmation import Configuration, Confirmation
from hpolab.analysis.ensemble import Ensemble, average, fold_ensemble, load_ensemble
from hpolab.analysis.import_runs import import_runs
from hpolab.analysis.influence import Influence, influence
from hpolab.analysis.leads import Lead
from hpolab.analysis.recommend import Recommendation, Recommended, recommend
from hpolab.analysis.sweep import Stage, Sweep, Tried, load_sweep, sweep

__all__ = [
    "Comparison",
    "Configuration",
    "Confirmation",
    "Contender",
    "Ensemble",
    "Influence",
    "Lead",
    "Recommendation",
    "Recommended",
    "Stage",
    "Sweep",
    "Tried",
    "average",
    "compare",
    "confirm",
    "fold_ensemble",
    "import_runs",
    "influence",
    "load_comparison",
    "load_confirmation",
    "load_ensemble",
    "load_sweep",
    "recommend",
    "sweep",
]
