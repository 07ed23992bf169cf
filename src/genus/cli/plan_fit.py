"""`genus plan fit`: a scaling law of anyone's table of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from genus.plan.fit import Law
    from genus.plan.profile import Profile
    from genus.plan.table import Runs


@dataclass(frozen=True)
class Options:
    """Fit a law of the loss to a table of training runs, and say how well each of its numbers is known.

    genus plan fit runs.csv

    genus plan fit runs.csv --form bracket --by run --json law.json

    genus plan fit runs.csv --columns loss=loss_c4_val --where dataset=rpj

    genus plan fit runs.csv --form repeated --fix E=1.87 A=521 B=1488 alpha=0.353 beta=0.353 --profile R_D

    The table is a .csv, .tsv or .jsonl file (also .gz) with one row for each measured point: parameters, training tokens and
    loss, in any units.
    """

    table: Annotated[Positional[Path], arg(metavar="RUNS")]
    """The table of runs."""
    form: str = "chinchilla"
    """Law: chinchilla, bracket, repeated (needs unique tokens), batch (needs tokens per step), power, power:seconds ..."""
    by: str | None = None
    """Column that tells trajectories apart; points of one are resampled together. Default: run or name, where there is one."""
    profile: str | None = None
    """Print the objective at each value of this parameter."""
    columns: tuple[str, ...] = ()
    """Which column is what, as loss=val_loss params=n_non_embedding."""
    where: tuple[str, ...] = ()
    """Only rows with these values, as dataset=c4."""
    drop: bool = False
    """Leave out rows without a positive number of parameters, tokens and loss; otherwise they are an error."""
    fix: tuple[str, ...] = ()
    """Parameters that are known, as E=1.69 alpha=0.34."""
    tie: tuple[str, ...] = ()
    """Exponents that are equal, as alpha=beta."""
    delta: float = 1e-3
    """Log residuals beyond this count by their size, not their square; `inf` is least squares."""
    repeats: int = 100
    """Resampled tables for the intervals; 0 leaves them out."""
    json: Path | None = None
    """Write everything to this file."""


def main(options: Options) -> int:
    from genus.plan.fit import fit
    from genus.plan.forms import get
    from genus.plan.profile import profile
    from genus.plan.table import Runs

    form = get(options.form)
    columns = _pairs(options.columns, "columns")
    if options.by is not None:
        columns["run"] = options.by
    runs = Runs.read(options.table, columns, _pairs(options.where, "where"), options.drop)
    settings: dict[str, Any] = {
        "delta": options.delta,
        "fixed": {name: _value(name, text) for name, text in _pairs(options.fix, "fix").items()},
        "tie": options.tie,
    }
    law = fit(runs, form, **settings)
    free = [name for name in form.names if name not in law.fixed]
    wanted = [options.profile] if options.profile else []
    profiles = {name: profile(runs, form, name, **settings) for name in dict.fromkeys([*free, *wanted])}
    intervals = _intervals(runs, options, settings, free)
    near = _near_optimal(runs, options, settings)

    print("\n".join(_table(runs)))
    print("\n".join(_law(law, profiles, intervals)))
    print("\n".join(_fit(law, runs, options.delta)))
    careful = _design(runs, law)
    print("\n".join([*_near(near, runs), *([f"careful: {careful}"] if careful else [])]))
    if options.profile:
        print("\n".join(_profile(profiles[options.profile])))
    if options.json:
        from genus.run import write_atomic

        found = {
            "table": runs.name,
            "law": law.to_json(),
            "intervals": {name: list(ends) for name, ends in intervals.items()},
            "profiles": {name: p.to_json() for name, p in profiles.items()},
            "near_optimal": near.to_json() if near else None,
            "refused": careful,
        }
        write_atomic(options.json, json.dumps(found, indent=1) + "\n")
        print(f"written: {options.json}")
    return 0


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise ValueError(f"--{option} takes NAME=VALUE, not {word!r}")
    return dict(word.split("=", 1) for word in words)


def _value(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--fix {name}={text}: {text!r} is not a number") from None


def _intervals(runs: Runs, options: Options, settings: dict[str, Any], free: list[str]) -> dict[str, tuple[float, float]]:
    from genus.plan.bootstrap import bootstrap, interval

    if not (options.repeats and free):
        return {}
    laws = bootstrap(runs, options.form, options.repeats, **settings)
    return {name: interval(laws, name) for name in free}


def _near_optimal(runs: Runs, options: Options, settings: dict[str, Any]) -> Law | None:
    """The law of the rows near the best of their budget; None where they are all rows, or too few to fit."""
    from genus.plan.fit import fit
    from genus.plan.table import near_optimal

    weights = near_optimal(runs)
    if weights.all():
        return None
    try:
        return fit(runs, options.form, weights, **settings)
    except ValueError:
        return None


def _design(runs: Runs, law: Law) -> str | None:
    """Why these sizes and tokens cannot determine the law, whatever the losses; None where they can."""
    from genus.plan.design.identify import identifiability
    from genus.plan.forms import get

    if not {"params", "tokens"} <= set(get(law.form).columns):
        return None
    return identifiability(runs.params, runs.tokens).refused


def _table(runs: Runs) -> list[str]:
    def reach(values: Any) -> str:
        return f"{values.min():.3g} to {values.max():.3g}"

    trajectories = len(set(runs.trajectory.tolist()))
    alone = "each its own run" if trajectories == len(runs) else f"{trajectories} runs"
    return [
        f"{runs.name}: {len(runs)} rows, {alone}; parameters {reach(runs.params)}, tokens {reach(runs.tokens)}, "
        f"loss {reach(runs.loss)}",
        *([f"{runs.left_out} rows without positive, finite numbers were left out"] if runs.left_out else []),
    ]


def _law(law: Law, profiles: dict[str, Profile], intervals: dict[str, tuple[float, float]]) -> list[str]:
    from genus.plan.forms import get

    form = get(law.form)
    lines = ["", f"loss = {form.formula}", "", f"{'':8}{'value':>12}   {'90 % of resampled':<24}fits equally well"]
    for name in form.names:
        if name in law.fixed:
            lines.append(f"{name:8}{law.values[name]:12.4g}   given")
            continue
        # A number whose profile is flat is not printed: it would be quoted.
        value = "" if profiles[name].flat else f"{law.values[name]:.4g}"
        ends = "{:.4g} to {:.4g}".format(*intervals[name]) if name in intervals else ""
        lines.append(f"{name:8}{value:>12}   {ends:<24}{profiles[name].text()}")
    within = max((p.within for p in profiles.values()), default=0.01)
    lines += ["", f"fits equally well: the objective rises by less than {within:.1%}, all other parameters fitted anew"]
    if law.held:
        lines.append(f"ended at a bound, so only a limit is known: {', '.join(law.held)}")
    return lines


def _fit(law: Law, runs: Runs, delta: float) -> list[str]:
    import numpy as np

    r = law.residuals(runs)
    worst = int(np.abs(r).argmax())
    assert runs.run is not None
    lines = [
        f"residuals: typically {law.spread:.2%}, largest {abs(r[worst]):.2%} (row {worst + 1}, run {runs.run[worst]})",
        f"objective {law.objective:.8g} (sum of Huber losses of log residuals, delta {delta:g}), "
        f"slope at the end {law.gradient_norm:.0e}",
    ]
    alpha, beta = law.values.get("alpha"), law.values.get("beta")
    if alpha and beta and law.form in ("chinchilla", "bracket"):
        share = beta / (alpha + beta)
        lines.append(f"the best size grows as compute^{share:.3f}, the best number of tokens as compute^{1 - share:.3f}")
    return lines


def _near(near: Law | None, runs: Runs) -> list[str]:
    if near is None:
        return []
    values = ", ".join(f"{name} {value:.4g}" for name, value in near.values.items() if name not in near.fixed)
    lines = [
        f"from the {near.rows} of {len(runs)} rows within 8 % of the best of their compute: {values}; residuals {near.spread:.2%}"
    ]
    alpha, beta = near.values.get("alpha"), near.values.get("beta")
    if alpha and beta and near.form in ("chinchilla", "bracket"):
        lines[0] += f"; best size as compute^{beta / (alpha + beta):.3f}"
    return lines


def _profile(profile: Profile) -> list[str]:
    lines = ["", f"{profile.parameter}: {profile.text()}", f"{profile.parameter:>12}{'objective':>14}{'above the least':>18}"]
    least = profile.objective.min()
    for value, objective in zip(profile.grid, profile.objective):
        mark = " " if objective > least * (1 + profile.within) else "*"
        lines.append(f"{value:12.5g}{objective:14.8g}{objective / least - 1:17.2%} {mark}")
    return lines
