import numpy as np
import pytest

from genus.plan.design.prior import PARAMETERS, PRIORS, REFERENCE, Prior

N, D = np.array([3e5, 1e6, 2e7]), np.array([1e6, 5e7, 3e8])


@pytest.mark.parametrize("unique", [None, 2e7])
def test_slopes_are_those_of_the_loss(unique):
    law = Prior(bracket=0.8)
    names = {"E": "E", "a": "a", "b": "b", "alpha": "alpha", "beta": "beta", "repeats": "repeats"}
    slopes = law.jacobian(N, D, unique)
    for i, name in enumerate(PARAMETERS):
        if name not in names or name in ("a", "b"):
            continue
        value, step = getattr(law, name), 1e-5
        logarithmic = name in ("E", "repeats")
        h = value * step if logarithmic else step
        up, down = (np.log(Prior(**{"bracket": 0.8, name: value + s * h}).predict(N, D, unique)) for s in (1, -1))
        np.testing.assert_allclose(slopes[:, i], (up - down) / (2 * step), rtol=1e-5, atol=1e-10)


def test_the_bracket_bends_but_moves_nothing_at_the_reference():
    for bracket in (0.6, 1.0, 1.4):
        assert Prior(bracket=bracket).predict(*REFERENCE) == pytest.approx(1.8)
    step = 1e-6
    slope = (np.log(Prior(bracket=1 + step).predict(N, D)) - np.log(Prior(bracket=1 - step).predict(N, D))) / (2 * step)
    np.testing.assert_allclose(Prior().jacobian(N, D)[:, PARAMETERS.index("bracket")], slope, rtol=1e-6)


def test_from_the_values_of_a_fit():
    values = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.36, "gamma": 1.3}
    law = Prior.from_values(values, reference=(1e9, 2e10))
    direct = 1.7 + (400 / N**0.34 + 1200 / D**0.36) ** 1.3
    np.testing.assert_allclose(law.predict(N, D), direct)
    with pytest.raises(ValueError, match="lacks B, beta"):
        Prior.from_values({"E": 1.0, "A": 2.0, "alpha": 0.3})


def test_repeats_are_worth_less_than_new_text_and_more_than_nothing():
    law = PRIORS[0]
    once, repeated, fresh = law.predict(1e6, 1e7), law.predict(1e6, 4e7, unique=1e7), law.predict(1e6, 4e7)
    assert fresh < repeated < once
    assert law.predict(1e6, 5e6, unique=1e7) == law.predict(1e6, 5e6)
