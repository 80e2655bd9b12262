"""Verifiers of what a model reads off an image, and of the form and language of a response."""
