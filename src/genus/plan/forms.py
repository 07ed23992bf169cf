"""Laws of the loss: which functions of size and data are fitted, with their slopes.

Every form is fitted in coordinates `u` in which it is well conditioned: the floor E as it is, everything else as a logarithm, and
the coefficient of a power term at the centre of the data instead of at one parameter or token: log A - alpha * pivot.

n rows, p parameters, k columns of a basis, g points of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from genus.plan.table import Array, Runs

Logs = Mapping[str, Array]

HUGE = 300.0  # logarithm at which a term is cut off, far from where a law ends, so that a search may pass without overflow


@dataclass(frozen=True)
class Parameter:
    """A searched number: its bounds, and the values from which the search starts."""

    name: str
    low: float
    high: float
    starts: tuple[float, ...]


@dataclass(frozen=True)
class Term:
    """coefficient / column ** exponent"""

    coefficient: str
    exponent: Parameter
    column: str


def _exponent(name: str, high: float = 4.0, starts: tuple[float, ...] = ()) -> Parameter:
    return Parameter(name, 0.01, high, starts or (0.06, 0.12, 0.2, 0.28, 0.36, 0.46, 0.6, 0.8, 1.1, 1.6))


COARSE = (0.1, 0.22, 0.38, 0.65, 1.2)
SIZE = Term("A", _exponent("alpha"), "params")
DATA = Term("B", _exponent("beta"), "tokens")


@dataclass(frozen=True)
class Form:
    """loss = E + a sum of power terms. Subclasses bend that sum.

    names: all parameters, in the order of the coordinates: E, coefficients, exponents, further shape parameters.
    """

    name: str
    formula: str
    terms: tuple[Term, ...]
    shape: tuple[Parameter, ...] = ()

    @property
    def coefficients(self) -> tuple[str, ...]:
        return ("E", *(t.coefficient for t in self.terms))

    @property
    def exponents(self) -> tuple[Parameter, ...]:
        return (*(t.exponent for t in self.terms), *self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.coefficients, *(p.name for p in self.exponents))

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row must have for this form."""
        return tuple(t.column for t in self.terms)

    def logs(self, columns: Mapping[str, Array | float | None]) -> dict[str, Array]:
        """Natural logarithms of the columns this form needs.

        Raises:
            ValueError: one of them is not there.
        """
        given = {key: np.asarray(value, np.float64) for key, value in columns.items() if value is not None}
        if "batch" in given and "tokens" in given:
            given["steps"] = given["tokens"] / given["batch"]
        for column in self.columns:
            if column not in given:
                needs = "batch (tokens per step)" if column == "steps" else column
                raise ValueError(f"the form {self.name!r} needs {needs}, which is not given; {self.formula}")
        return {column: np.log(given[column]) for column in self.columns}

    def of_runs(self, runs: Runs) -> dict[str, Array]:
        """`logs` of a table."""
        names = ("params", "tokens", "unique", "batch", "seconds", "memory", "compute")
        return self.logs({name: getattr(runs, name) for name in names})

    def to_coordinates(self, values: Mapping[str, float], pivot: Mapping[str, float]) -> Array:
        """(p,) coordinates of named values; `pivot` is the centre of each column's logarithms."""
        u = np.array([values["E"], *(math.log(max(values[n], 1e-300)) for n in self.names[1:])])
        for i, t in enumerate(self.terms, 1):
            u[i] -= values[t.exponent.name] * pivot[t.column]
        return u

    def to_values(self, u: Array, pivot: Mapping[str, float]) -> dict[str, float]:
        """Named values of coordinates."""
        values = {"E": float(u[0]), **{n: float(np.exp(v)) for n, v in zip(self.names[1:], u[1:])}}
        for i, t in enumerate(self.terms, 1):
            values[t.coefficient] = float(np.exp(min(u[i] + values[t.exponent.name] * pivot[t.column], 700)))
        return values

    def loss(self, u: Array, x: Logs, pivot: Mapping[str, float]) -> tuple[Array, Array]:
        """Loss (n,) and its slopes (p, n) in the coordinates, at centred logarithms x."""
        terms, exponent_slopes = self._terms(u, x)
        return u[0] + np.sum(terms, axis=0), np.stack([np.ones_like(terms[0]), *terms, *exponent_slopes])

    def basis(self, theta: Array, x: Logs, pivot: Mapping[str, float]) -> Array:
        """(g, n, k): for each row of theta (g, searched), columns of which the loss is a non-negative combination."""
        powers = [np.exp(-theta[:, i, None] * x[t.column]) for i, t in enumerate(self.terms)]
        return np.stack([np.ones_like(powers[0]), *powers], axis=2)

    def grid(self) -> list[tuple[float, ...]]:
        """Starts of each searched number, `basis` order."""
        return [p.starts for p in self.exponents]

    def assemble(self, theta: Array, coefficients: Array) -> Array:
        """(p,) coordinates from searched numbers and the coefficients of the basis."""
        return np.concatenate([coefficients[:1], np.log(coefficients[1:]), np.log(theta)])

    def _terms(self, u: Array, x: Logs) -> tuple[list[Array], list[Array]]:
        """Each power term, and its slope in the logarithm of its exponent."""
        k, terms, slopes = len(self.terms), [], []
        for i, t in enumerate(self.terms):
            push = np.exp(u[1 + k + i]) * x[t.column]
            terms.append(np.exp(np.minimum(u[1 + i] - push, HUGE)))
            slopes.append(-push * terms[-1])
        return terms, slopes


@dataclass(frozen=True)
class Bracket(Form):
    """loss = E + (sum of power terms) ** gamma."""

    def loss(self, u: Array, x: Logs, pivot: Mapping[str, float]) -> tuple[Array, Array]:
        terms, exponent_slopes = self._terms(u, x)
        total, gamma = np.sum(terms, axis=0) + 1e-300, np.exp(u[-1])
        bent = np.exp(np.minimum(gamma * np.log(total), HUGE))
        slopes = [gamma * bent * (s / total) for s in (*terms, *exponent_slopes)]
        return u[0] + bent, np.stack([np.ones_like(bent), *slopes, gamma * bent * np.log(total)])

    # For fixed exponents and ratio B : A the bracket is known up to a factor.

    def grid(self) -> list[tuple[float, ...]]:
        return [*super().grid(), (0.05, 0.3, 1.0, 3.0, 20.0)]

    def basis(self, theta: Array, x: Logs, pivot: Mapping[str, float]) -> Array:
        alpha, beta, gamma, ratio = (theta[:, i, None] for i in range(4))
        bent = (np.exp(-alpha * x["params"]) + ratio * np.exp(-beta * x["tokens"])) ** gamma
        return np.stack([np.ones_like(bent), bent], axis=2)

    def assemble(self, theta: Array, coefficients: Array) -> Array:
        alpha, beta, gamma, ratio = np.log(theta)
        size = np.log(coefficients[1]) / np.exp(gamma)
        return np.array([coefficients[0], size, size + ratio, alpha, beta, gamma])


@dataclass(frozen=True)
class Repeated(Form):
    """Repeated tokens and excess parameters are worth exponentially less (Muennighoff 2023, arXiv:2305.16264, section 3.1).

    D' = U + U R_D (1 - exp(-R / R_D)) with R = D/U - 1 repetitions; likewise N' from U_N, the smaller of N and the
    parameters that are best for U unique tokens under the law itself: U_N = G (U G)^(beta/alpha) with
    G = (alpha A / beta B)^(1 / (alpha + beta)).
    """

    @property
    def columns(self) -> tuple[str, ...]:
        return ("params", "tokens", "unique")

    def logs(self, columns: Mapping[str, Array | float | None]) -> dict[str, Array]:
        given = dict(columns)
        if given.get("unique") is None:
            given["unique"] = given.get("tokens")
        x = super().logs(given)
        x["unique"] = np.minimum(x["unique"], x["tokens"])
        return x

    def loss(self, u: Array, x: Logs, pivot: Mapping[str, float]) -> tuple[Array, Array]:
        floor, a, b, log_alpha, log_beta, log_rd, log_rn = u
        alpha, beta = np.exp(log_alpha), np.exp(log_beta)
        data, data_decay, _ = _worth(x["tokens"], x["unique"], np.exp(log_rd))
        base, base_slopes = self._base(u, x, pivot)
        size, size_decay, size_base = _worth(x["params"], base, np.exp(log_rn))
        term_n, term_d = np.exp(np.minimum(a - alpha * size, HUGE)), np.exp(np.minimum(b - beta * data, HUGE))
        # u enters the size term directly (a, alpha) and through the best number of parameters, of which `size_base` is the slope
        through = -alpha * term_n * size_base
        slope_a, slope_b, slope_alpha, slope_beta = (through * s for s in base_slopes)
        slopes = [
            np.ones_like(term_n),
            term_n + slope_a,
            term_d + slope_b,
            -alpha * size * term_n + slope_alpha,
            -beta * data * term_d + slope_beta,
            -beta * term_d * data_decay,
            -alpha * term_n * size_decay,
        ]
        return floor + term_n + term_d, np.stack(slopes)

    def _base(self, u: Array, x: Logs, pivot: Mapping[str, float]) -> tuple[Array, tuple[Array, ...]]:
        """Logarithm of U_N, centred like the parameters, and its slopes in log A, log B, log alpha, log beta."""
        m, d = pivot["params"], pivot["tokens"]
        alpha, beta = np.exp(u[3]), np.exp(u[4])
        log_g = (u[3] + u[1] + alpha * m - u[4] - u[2] - beta * d) / (alpha + beta)
        unique = x["unique"] + d
        best = log_g * (1 + beta / alpha) + beta / alpha * unique - m
        best_g = 1 + beta / alpha
        g_alpha = (1 + alpha * m - alpha * log_g) / (alpha + beta)
        g_beta = (-1 - beta * d - beta * log_g) / (alpha + beta)
        ratio = beta / alpha * (unique + log_g)
        free = (best < x["params"]).astype(np.float64)
        slopes = (
            free * best_g / (alpha + beta),
            -free * best_g / (alpha + beta),
            free * (best_g * g_alpha - ratio),
            free * (best_g * g_beta + ratio),
        )
        return np.minimum(best, x["params"]), slopes

    # For fixed exponents, decay constants and ratio B : A, what is left is E and one factor.

    def grid(self) -> list[tuple[float, ...]]:
        return [*super().grid(), (0.2, 1.0, 5.0)]

    def basis(self, theta: Array, x: Logs, pivot: Mapping[str, float]) -> Array:
        rows = []
        for point in theta:
            u = self.assemble(point, np.array([0.0, 1.0]))
            rows.append(self.loss(u, x, pivot)[0])
        curve = np.stack(rows)
        return np.stack([np.ones_like(curve), curve], axis=2)

    def assemble(self, theta: Array, coefficients: Array) -> Array:
        alpha, beta, rd, rn, ratio = np.log(theta)
        size = np.log(coefficients[1])
        return np.array([coefficients[0], size, size + ratio, alpha, beta, rd, rn])


def _worth(seen: Array, unique: Array, decay: float) -> tuple[Array, Array, Array]:
    """Logarithm of the effective amount U + U R* (1 - exp(-R/R*)), and its slopes in log R* and in log U.

    Args:
        seen, unique: logarithms; unique <= seen.
        decay: R*, repetitions after which the worth of one more has fallen to 1/e.
    """
    repeats = np.expm1(np.clip(seen - unique, 0.0, HUGE))
    share = repeats / decay
    gone = -np.expm1(-share)
    amount = 1 + decay * gone
    kept = 1 - gone
    return unique + np.log(amount), (decay * gone - repeats * kept) / amount, 1 - kept * (repeats + 1) / amount


_REPEATS = tuple(
    Parameter(name, 0.05, 1e5, starts) for name, starts in (("R_D", (2.0, 8.0, 30.0, 300.0)), ("R_N", (0.5, 3.0, 20.0, 200.0)))
)
_WIDE = (Term("A", _exponent("alpha", 10.0, COARSE), "params"), Term("B", _exponent("beta", 10.0, COARSE), "tokens"))
_COARSE = (Term("A", _exponent("alpha", starts=COARSE), "params"), Term("B", _exponent("beta", starts=COARSE), "tokens"))
_STEPS = Term("C", _exponent("kappa", starts=COARSE), "steps")
_GAMMA = Parameter("gamma", 0.1, 10.0, (0.4, 0.7, 1.0, 1.6))

FORMS: dict[str, Form] = {
    "chinchilla": Form("chinchilla", "E + A/N^alpha + B/D^beta", (SIZE, DATA)),
    "bracket": Bracket("bracket", "E + (A/N^alpha + B/D^beta)^gamma", _WIDE, (_GAMMA,)),
    "repeated": Repeated("repeated", "E + A/N'^alpha + B/D'^beta, N' and D' saturate with R_N and R_D", _COARSE, _REPEATS),
    "batch": Form("batch", "E + A/N^alpha + B/D^beta + C/S^kappa, S = D/batch steps", (*_COARSE, _STEPS)),
    "power": Form("power", "E + A/D^alpha", (Term("A", SIZE.exponent, "tokens"),)),
    **{
        f"power:{column}": Form(f"power:{column}", f"E + A/{column}^alpha", (Term("A", SIZE.exponent, column),))
        for column in ("params", "compute", "seconds", "memory")
    },
}


def get(form: str | Form) -> Form:
    """A form by name.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(form, Form):
        return form
    if form not in FORMS:
        raise ValueError(f"there is no form {form!r}; there is {', '.join(FORMS)}")
    return FORMS[form]
