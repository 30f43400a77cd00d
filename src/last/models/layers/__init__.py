"""Layers shared by two models or more."""
