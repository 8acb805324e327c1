"""Staying offline: the environment that keeps every library silent, and the proof that it worked."""
