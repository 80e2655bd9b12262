"""vlrl: train vision-language models to reason with reinforcement learning."""

from vlrl.compat import install_torchvision_guard

__version__ = "0.1.0"

install_torchvision_guard()
