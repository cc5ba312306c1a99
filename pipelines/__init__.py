"""Shared inference: engines, batching, the wire between hosts and replicas, the plugins."""
