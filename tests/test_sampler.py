"""The trial-seeded sampler: Optuna's contract, and exact repetition."""

from __future__ import annotations

import pickle
from functools import partial

import optuna
import pytest
from optuna.samplers import (
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import TrialState

from hpolab import make_study, run
from hpolab.sampler import TrialSeededSampler
