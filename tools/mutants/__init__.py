"""Mutants of what no mutation tool knows: template.yaml and the definitions of the state machines.

A mutant is one small, meaningful change. A test suite that still passes with it has a gap, or the change has no effect.
"""
