"""Tests of the deployed stack, driven through its topics.

This is a package so that its fixtures end with it: they poll in the background, and later tests in the same process
hand all AWS clients to moto.
"""
