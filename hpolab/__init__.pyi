"""The public names of hpolab, and where each stands."""

from .analysis.across import AcrossDataSets, compare_across
from .analysis.comparison import Comparison
from .analysis.confirmation import Configuration, Confirmation
from .analysis.contender import Contender
from .analysis.effects import Effect
from .analysis.influence import influence
from .analysis.overview import StudyOverview, study_overview
from .analysis.parameters import Influence
from .analysis.recommend import Recommendation, Recommended, recommend
from .analysis.repeats import Outperforming
from .analysis.trained.compare import compare, load_comparison
from .analysis.trained.confirm import confirm, load_confirmation
from .analysis.trained.deleting import delete_study
from .analysis.trained.ensemble import Ensemble, average, fold_ensemble, load_ensemble
from .analysis.trained.import_runs import import_runs
from .analysis.trained.sweep import Sweep, SweepStage, SweepTrial, load_sweep, sweep
from .analysis.tuning_curves import TuningCurve
from .datasets import (
    FourSplits,
    TasteClusters,
    load_digits,
    load_mnist,
    load_movielens_100k,
    make_taste_clusters,
    split_four,
)
from .errors import (
    CacheMismatch,
    DataNotFound,
    Diverged,
    FileNotWritten,
    HpolabError,
    InvalidArgument,
    InvalidType,
    LeaseLost,
    MissingExtra,
    RayUnavailable,
    RecipeMismatch,
    StorageNotFound,
    StorageUnavailable,
    StudyNotFound,
    TooManyFailures,
    WorkerError,
    WorkersDied,
)
from .fingerprint import data_fingerprint
from .lightgbm.callback import LightGBMPruning
from .lightgbm.model import FoldModels, LightGBMModel
from .lightgbm.objective import LightGBMObjective
from .lightgbm.space import LIGHTGBM_PRESETS, LIGHTGBM_STAGES, lightgbm_space
from .objectives.base import Objective
from .objectives.function import FunctionObjective
from .recommender.features import Features
from .recommender.filters import k_core
from .recommender.interactions import Interactions
from .recommender.metrics import RANKING_METRICS
from .recommender.objective import RecommenderObjective
from .recommender.ranking import Ranking, RankingEstimate, RankingTask
from .recommender.rating import RATING_METRICS, RatingErrors, RatingTask
from .recommender.space import RECOMMENDER_LOSSES, RECOMMENDERS, recommender_space
from .recommender.splits import Splits, leave_last_out, split_by_time, split_users_by_ratio
from .recommender.trained import Recommender, load_recommender
from .recommender.trainer import RecommenderTrainer, RecommenderTraining
from .report.plotting import (
    plot_confirmation,
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_pareto_front,
    plot_slice,
    plot_test_scores,
    plot_tuning_curves,
)
from .report.write import terminal_report, write_images, write_report
from .running.copying import copy_study
from .running.enqueued import drop_enqueued
from .running.executors.base import Executor
from .running.executors.processes import LocalProcesses
from .running.executors.ray import RayExecutor
from .running.run import run
from .search_space.prior import Prior
from .search_space.space import SearchSpace
from .sklearn.callback import fit_by_epochs
from .sklearn.objective import SklearnObjective
from .sklearn.space import ESTIMATORS, estimator_space
from .staged.artifacts import ArtifactCache
from .staged.objective import Staged, StagedObjective
from .staged.post import Tuned
from .storage.promises import Promise, StoragePromises, check_storage
from .storage.redaction import redact
from .storage.url import DEFAULT_URL, open_storage
from .studies.auto import AutoSampler
from .studies.export import as_json, as_overrides, as_python, as_yaml, params_of_yaml
from .studies.frame import trials_frame
from .studies.halving import HalvingPruner
from .studies.pruner import PRUNERS, make_pruner
from .studies.racing import RacingPruner
from .studies.sampler import SAMPLERS, ManualSampler, TrialSeededSampler, make_sampler
from .studies.stepwise import LIGHTGBM_ORDER, StepwiseSampler
from .studies.study import load_study, make_study
from .torch.build import build_optimizer, build_schedule
from .torch.lightning import LightningPruningCallback
from .torch.objective import TorchObjective
from .torch.optimizers import EXTRA_OPTIMIZERS, OPTIMIZERS, optimizer_space
from .torch.options import TrainedEpoch
from .torch.schedules import SCHEDULES, schedule_space
from .trackers.mlflow import MLflowTracker
from .trackers.tensorboard import TensorBoardTracker
from .trackers.wandb import WandbTracker
from .trial.checkpoint import CheckpointFolder
from .trial.reporter import Reporter, ReporterOptions, ReporterSettings
from .trial.tracker import StudyEnd, TrackedStudy, TrackedTrial, Tracker, TrialEnd, TrialRun

__all__ = [
    "DEFAULT_URL",
    "ESTIMATORS",
    "EXTRA_OPTIMIZERS",
    "LIGHTGBM_ORDER",
    "LIGHTGBM_PRESETS",
    "LIGHTGBM_STAGES",
    "OPTIMIZERS",
    "PRUNERS",
    "RANKING_METRICS",
    "RATING_METRICS",
    "RECOMMENDERS",
    "RECOMMENDER_LOSSES",
    "SAMPLERS",
    "SCHEDULES",
    "AcrossDataSets",
    "ArtifactCache",
    "AutoSampler",
    "CacheMismatch",
    "CheckpointFolder",
    "Comparison",
    "Configuration",
    "Confirmation",
    "Contender",
    "DataNotFound",
    "Diverged",
    "Effect",
    "Ensemble",
    "Executor",
    "Features",
    "FileNotWritten",
    "FoldModels",
    "FourSplits",
    "FunctionObjective",
    "HalvingPruner",
    "HpolabError",
    "Influence",
    "Interactions",
    "InvalidArgument",
    "InvalidType",
    "LeaseLost",
    "LightGBMModel",
    "LightGBMObjective",
    "LightGBMPruning",
    "LightningPruningCallback",
    "LocalProcesses",
    "MLflowTracker",
    "ManualSampler",
    "MissingExtra",
    "Objective",
    "Outperforming",
    "Prior",
    "Promise",
    "RacingPruner",
    "Ranking",
    "RankingEstimate",
    "RankingTask",
    "RatingErrors",
    "RatingTask",
    "RayExecutor",
    "RayUnavailable",
    "RecipeMismatch",
    "Recommendation",
    "Recommended",
    "Recommender",
    "RecommenderObjective",
    "RecommenderTrainer",
    "RecommenderTraining",
    "Reporter",
    "ReporterOptions",
    "ReporterSettings",
    "SearchSpace",
    "SklearnObjective",
    "Splits",
    "Staged",
    "StagedObjective",
    "StepwiseSampler",
    "StorageNotFound",
    "StoragePromises",
    "StorageUnavailable",
    "StudyEnd",
    "StudyNotFound",
    "StudyOverview",
    "Sweep",
    "SweepStage",
    "SweepTrial",
    "TasteClusters",
    "TensorBoardTracker",
    "TooManyFailures",
    "TorchObjective",
    "TrackedStudy",
    "TrackedTrial",
    "Tracker",
    "TrainedEpoch",
    "TrialEnd",
    "TrialRun",
    "TrialSeededSampler",
    "Tuned",
    "TuningCurve",
    "WandbTracker",
    "WorkerError",
    "WorkersDied",
    "__version__",
    "as_json",
    "as_overrides",
    "as_python",
    "as_yaml",
    "average",
    "build_optimizer",
    "build_schedule",
    "check_storage",
    "compare",
    "compare_across",
    "confirm",
    "copy_study",
    "data_fingerprint",
    "delete_study",
    "drop_enqueued",
    "estimator_space",
    "fit_by_epochs",
    "fold_ensemble",
    "import_runs",
    "influence",
    "k_core",
    "leave_last_out",
    "lightgbm_space",
    "load_comparison",
    "load_confirmation",
    "load_digits",
    "load_ensemble",
    "load_mnist",
    "load_movielens_100k",
    "load_recommender",
    "load_study",
    "load_sweep",
    "make_pruner",
    "make_sampler",
    "make_study",
    "make_taste_clusters",
    "open_storage",
    "optimizer_space",
    "params_of_yaml",
    "plot_confirmation",
    "plot_intermediate_values",
    "plot_optimization_history",
    "plot_parallel_coordinate",
    "plot_param_importances",
    "plot_pareto_front",
    "plot_slice",
    "plot_test_scores",
    "plot_tuning_curves",
    "recommend",
    "recommender_space",
    "redact",
    "run",
    "schedule_space",
    "split_by_time",
    "split_four",
    "split_users_by_ratio",
    "study_overview",
    "sweep",
    "terminal_report",
    "trials_frame",
    "write_images",
    "write_report",
]

__version__: str
