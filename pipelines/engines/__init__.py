"""Inference engines, one model each, behind one protocol."""
