"""Estimates made without AWS: what a stack costs (arithmetic), and how late events are in a burst (simulation)."""
