"""Tune: labels in, a run out. `genus.tune("runs/base", "labels.csv", "runs/mine")`"""
