"""What runs in the sandbox's own interpreter: standard library only, nothing of the rest of vlrl."""
