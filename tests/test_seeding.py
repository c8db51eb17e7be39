"""Seeds derived from one seed."""

from hpolab.seeding import derive_seed


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
