import pytest
import torch

import privgan as pg
from privgan.mechanisms import Blocks

INTERVAL = pg.Box(0.0, 1.0, dim=1)


@pytest.mark.parametrize(
    ("mechanism", "possible", "impossible"),
    [
        (pg.RandomizedResponse(2, 0.9), [[0.0, 1.0]], [[1.0, 1.0]]),
        (pg.RandomizedResponse(2, 0.9), [[1.0, 0.0]], [[0.0, 0.0]]),
        (pg.RandomizedResponse(2, 0.9), [[1.0, 0.0]], [[2.0, -1.0]]),
        (pg.UnaryEncoding(2, 0.9, 0.1), [[1.0, 1.0]], [[1.0, 0.5]]),
        (pg.SquareWave(1.0, bounds=INTERVAL), [[1.1]], [[7.0]]),
        (pg.Piecewise(1.0, bounds=INTERVAL), [[1.1]], [[-7.0]]),
        (pg.LinearMap(torch.ones(1, 3), pg.SquareWave(1.0, bounds=INTERVAL)), [[0.3]], [[7.0]]),
        (
            pg.Product(
                (slice(0, 1), pg.Gaussian(1.0)), (slice(1, 3), pg.RandomizedResponse(2, 0.9))
            ),
            [[5.0, 0.0, 1.0]],
            [[5.0, 0.5, 0.5]],
        ),
        (
            Blocks(pg.Gaussian(1.0), pg.SquareWave(1.0, bounds=INTERVAL)),
            [[7.0, 7.0, 0.0]],
            [[7.0, 7.0, 1.0]],
        ),
        (
            Blocks(pg.Gaussian(1.0), pg.SquareWave(1.0, bounds=INTERVAL)),
            [[7.0, 0.0, 1.0]],
            [[7.0, 0.0, 2.0]],
        ),
    ],
)
def test_values_are_what_the_mechanism_can_have_reported(mechanism, possible, impossible):
    possible, impossible = torch.tensor(possible), torch.tensor(impossible)
    pg.Reports(possible, mechanism, simulation=True)
    with pytest.raises(ValueError, match=r"values has 1 row that .* the first at row 1"):
        pg.Reports(torch.cat([possible, impossible]), mechanism, simulation=True)
    with pytest.raises(ValueError, match="columns"):
        pg.Reports(
            torch.zeros(1, 9), Blocks(mechanism, dim=1 if mechanism.dim is None else None), True
        )
