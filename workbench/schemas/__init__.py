"""JSON schemas of response formats and tools: read once, then enforced and validated.

A schema is never rewritten. `documents` reads one and refuses keywords that cannot be enforced, `normal` derives the
values that each location allows, `rules` writes these as a grammar, and `argument_validation` validates the result.
"""
