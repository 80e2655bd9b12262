"""Recipes that generate training rows whose answers are computed, never annotated."""
