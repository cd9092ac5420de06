"""The notebook's interface: a `Workbench`, the runs it starts, and what can be done with a run.

Nothing is imported here, so that a capsule can be read without the session.
"""
