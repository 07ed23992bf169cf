"""Forecast: what a table of runs says about a run that was not made, and how far to trust it."""

from genus.plan.forecast.forecaster import Band, Forecast, forecast

__all__ = ["Band", "Forecast", "forecast"]
