"""Mutation testing of the functions and of the command: does a test fail when a line is wrong?

The mutations are mutmut's, and a few that it lacks. mutmut's own runner is not used: it imports the code once and
switches mutants inside functions, so it can mutate neither constants, nor decorated functions (every handler), nor what
runs at import. Here each mutant is a file, imported anew by a process that was forked with the libraries loaded.
"""
