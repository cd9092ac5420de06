"""The decoder of devices: a `BlockStructure` computed by torch on CUDA, MPS, XPU, and on the CPU as their reference.

`forward` computes logits, `attention` its part over the keys of other tokens, `slots` holds keys and values, `step`
decodes a batch (as a captured graph on CUDA), `summaries` reduces logits on the device, and `decoder` joins them behind
the interface of `workbench.engine.decoders`. `proof` compares a device with float32 on the CPU, and `kept_proofs`
stores the result.
"""
