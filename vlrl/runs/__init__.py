"""A run is its directory: config, environment, metrics, rollouts, validation, checkpoints, report."""
