"""Fixtures of every test of training."""

from training_support import one_thread, pack

__all__ = ["one_thread", "pack"]
