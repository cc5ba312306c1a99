"""Ids, errors, time, settings and lifecycles that every other layer builds on."""
