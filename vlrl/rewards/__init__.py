"""Rewards: the answer taken out of a response, compared with the ground truth, and a verdict."""
