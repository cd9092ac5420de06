"""The arithmetic of a decode step, compiled by numba for the processor at hand.

``step`` is the whole step as one function that a ``team`` of threads runs; its inner loops are the ``vectors``, written
with the vector instructions of ``lanes``; a ``matrix`` holds weights in the form in which they are read.
"""
