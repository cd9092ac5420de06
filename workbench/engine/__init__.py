"""The engine: token ids in, steps out. Torch and transformers live here; the protocol and Jupyter do not.

`loading` makes a model from a folder, `scheduler` runs it in a thread of its own, `generation` follows one request
through the loop. The other modules are the parts of a step: `decoders` compute logits, `sampling` chooses a token,
`logprobs` measures it, `detokenizer` decodes it, `kv_cache` reuses prefixes.
"""
