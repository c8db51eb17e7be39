"""Parameters that an estimator ignores in silence are refused, with what they need."""

from __future__ import annotations

import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from hpolab import InvalidArgument, SearchSpace
from hpolab.search_space.space import as_space
from hpolab.sklearn.unread import refuse_unread

PIPELINE = make_pipeline(StandardScaler(), SVC())


@pytest.mark.parametrize(
    ("estimator", "space", "needed"),
    [
        (SVC(kernel="linear"), {"gamma": (0.1, 1.0)}, "'kernel' is 'rbf', 'poly' or 'sigmoid'"),
        (SVC(), {"degree": (2, 5)}, "'kernel' is 'poly'"),
        (SVR(), {"coef0": (0.0, 1.0), "kernel": ["linear", "rbf"]}, "'poly' or 'sigmoid'"),
        (PIPELINE, {"svc__degree": (2, 5)}, "'svc__kernel' is 'poly'"),
        (MLPClassifier(), {"momentum": (0.5, 0.9)}, "'solver' is 'sgd'"),
        (MLPClassifier(solver="sgd"), {"beta_1": (0.8, 0.9)}, "'solver' is 'adam'"),
        (SGDClassifier(), {"eta0": (0.01, 0.1)}, "'learning_rate' is"),
        (SGDClassifier(), {"l1_ratio": (0.1, 0.9)}, "'penalty' is 'elasticnet'"),
    ],
)
def test_parameter_that_changes_nothing_is_refused_with_what_it_needs(estimator, space, needed):
    with pytest.raises(InvalidArgument, match=needed):
        refuse_unread(as_space("space", space), estimator)


@pytest.mark.parametrize(
    ("estimator", "space"),
    [
        (SVC(), {"gamma": (0.1, 1.0)}),
        (SVC(kernel=lambda a, b: a @ b.T), {"gamma": (0.1, 1.0)}),
        (SVC(), {"degree": (2, 5), "kernel": ["rbf", "poly"]}),
        (
            PIPELINE,
            SearchSpace.choice("svc__kernel", {"linear": {}, "poly": {"svc__degree": (2, 5)}}),
        ),
        (MLPClassifier(solver="sgd"), {"momentum": (0.5, 0.9)}),
        (SGDClassifier(), {"l1_ratio": (0.1, 0.9), "penalty": "elasticnet"}),
    ],
)
def test_parameter_that_some_trial_reads_is_taken(estimator, space):
    refuse_unread(as_space("space", space), estimator)
