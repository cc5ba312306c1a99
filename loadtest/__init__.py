"""Synthetic callers that measure an agent from the outside, by its audio."""
