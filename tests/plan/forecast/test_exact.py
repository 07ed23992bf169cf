"""What was counted is known; what lies beyond begins there."""

import numpy as np
import pytest

from genus.plan.forecast.exact import Exact
from genus.plan.forecast.forecaster import forecast
from genus.plan.table import Runs

TOKENS = 1e5 * 2.0 ** np.arange(6)
LOSS = np.array([3.2, 3.06, 2.94, 2.8, 2.63, 2.4])  # falls faster and faster: no law of the forecast does


@pytest.fixture(scope="module")
def surface() -> Exact:
    rows = [{"run": "n", "params": 1.0, "tokens": t, "loss": loss, "flops": t} for t, loss in zip(TOKENS, LOSS)]
    return Exact(forecast(Runs.from_rows(rows, "ngram"), ("power",)), float(TOKENS[-1]), float(LOSS[-1]))


def test_the_measured_loss_is_not_foretold(surface: Exact) -> None:
    band = surface.predict(1.0, TOKENS[-1], unique=TOKENS[-1])
    assert float(band.loss) == 2.4 and 2.39 < float(band.low) < 2.4 < float(band.high) < 2.41
    assert set(surface.draws(1.0, TOKENS[-1]).ravel()) == {2.4}
    assert float(surface.deviation(1.0, TOKENS[-1])) == 0.0


def test_below_it_is_the_forecast_and_beyond_it_goes_on_from_there(surface: Exact) -> None:
    plain = surface.forecast
    below, at, beyond = TOKENS[2], TOKENS[-1], 4 * TOKENS[-1]
    assert float(surface.predict(1.0, below).loss) == float(plain.predict(1.0, below).loss)
    fall = float(plain.predict(1.0, beyond).loss) / float(plain.predict(1.0, at).loss)
    assert float(surface.predict(1.0, beyond).loss) == pytest.approx(2.4 * fall)
    assert surface.draws(1.0, np.array([below, at, beyond])).shape[1:] == (3,)
    assert float(surface.deviation(1.0, beyond)) > 0 and float(surface.ratio(1.0, beyond)) == pytest.approx(4)
