"""Streams that are named apart draw apart, whatever the seeds."""

from itertools import product

import numpy as np
import pytest
import torch

from privgan.streams import ambient, stream


def first(seed, purpose, step=0):
    return torch.randint(2**63 - 1, (1,), generator=stream(seed, purpose, step)).item()


def test_a_stream_repeats():
    assert torch.equal(*(torch.randn(5, generator=stream(3, "noise", 7)) for _ in range(2)))


def test_streams_of_many_seeds_purposes_and_steps_are_all_different():
    """By chance 100 000 draws of 63 bits agree once in a billion runs; of 32 bits, at once."""
    seeds = [*range(5000), -1, 2**32, 2**33, 2**64 + 1]
    names = product(seeds, ("noise", "latents"), range(10))
    drawn = [first(*name) for name in names]
    assert len(set(drawn)) == len(drawn)


def test_names_do_not_run_into_each_other():
    assert first(1, "noise", 12) != first(1, "noise 1", 2)
    assert first(11, "noise") != first(1, "1 noise")


def test_a_stream_is_uniform_and_uncorrelated_with_its_neighbours():
    u = np.stack([torch.rand(4000, generator=stream(0, "noise", k)).numpy() for k in range(50)])
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / u.size) ** 0.5
    correlation = np.corrcoef(u)[~np.eye(50, dtype=bool)]
    assert abs(correlation).max() < 5.5 / 4000**0.5


def test_without_a_seed_entropy_is_fresh():
    assert first(None, "noise") != first(None, "noise")


@pytest.mark.parametrize("seed", ["0", 1.0, True, [1]])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(TypeError, match="seed must be an integer"):
        stream(seed, "noise")


def test_ambient_draws_repeat_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    drawn = []
    for _ in range(2):
        with ambient(0, "layers", 3):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    with pytest.raises(KeyError), ambient(0, "layers"):
        raise KeyError
    assert torch.equal(before, torch.random.get_rng_state())
