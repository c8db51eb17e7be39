"""Seeds derived from one seed."""

import numpy as np
import pytest

from hpolab import InvalidArgument, InvalidType, TrialSeededSampler, make_sampler, make_study
from hpolab.seeding import check_seed, derive_seed


def test_seeds_repeat_and_differ_by_every_part():
    seeds = [
        derive_seed(seed, number, name)
        for seed in range(3)
        for number in range(50)
        for name in ("lr", "training")
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_seed_is_the_same_in_every_process_and_version():
    assert derive_seed(0, 7, "training") == 95181356


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), 2**40])
def test_a_seed_is_a_plain_int(seed):
    assert type(check_seed(seed)) is int
    assert check_seed(seed) == seed


@pytest.mark.parametrize(
    ("seed", "kind", "message"),
    [
        (-1, InvalidArgument, "`seed` must be 0 or above, got -1"),
        (np.int64(-1), InvalidArgument, "`seed` must be 0 or above, got -1"),
        (1.0, InvalidType, "`seed` must be an int, got float"),
        (True, InvalidType, "`seed` must be an int, got bool"),
        ("1", InvalidType, "`seed` must be an int, got str"),
        (None, InvalidType, "`seed` must be an int, got NoneType"),
    ],
)
def test_what_is_no_seed_is_refused_by_name(seed, kind, message):
    with pytest.raises(kind, match=message):
        check_seed(seed)
    with pytest.raises(kind, match="`fold_seed`"):
        check_seed(seed, "fold_seed")


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_study("s", storage="memory://", seed=-1),
        lambda: make_sampler("tpe", seed=-1),
        lambda: make_sampler("stepwise", seed=-1),
        lambda: make_sampler("qmc", seed=-1),
        lambda: TrialSeededSampler(lambda *, seed: None, seed=-1),
    ],
)
def test_whatever_takes_a_seed_refuses_one_below_zero(make):
    with pytest.raises(InvalidArgument, match="`seed` must be 0 or above, got -1"):
        make()


def test_a_seed_of_numpy_goes_on_as_its_int():
    study = make_study("s", storage="memory://", sampler="random", seed=np.int64(3))
    assert study.sampler.seed == 3
