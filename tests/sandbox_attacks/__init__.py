"""Hostile programs, and a host that notices what they manage. `harness` runs them as another user."""
