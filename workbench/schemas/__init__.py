"""JSON schemas: read once, then enforced, checked and shown as they came, for response formats and tools alike.

A schema is never taken apart and put together again. `documents` reads one and refuses by name what cannot be kept,
`normal` says of each place which values may stand there, `rules` writes that as a grammar, and `fitting` judges what
has been written.
"""
