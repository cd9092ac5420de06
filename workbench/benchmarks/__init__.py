"""Benchmarks of the engine's speed and exactness on this machine, next to other programs that run the same model.

A contestant wraps one program in one precision; a task measures figures with a contestant's methods. The rounds of a
task go through all contestants in turn, so that a temporary slowdown of the machine affects all of them.
"""
