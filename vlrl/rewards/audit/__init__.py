"""Answers that must not pass, and how many of a data set's rows let them."""
