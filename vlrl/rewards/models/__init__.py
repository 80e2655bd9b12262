"""Rewards by a model: a classic one with a value head, and a generative judge (Kimi k1.5, section 2.3.5)."""
