"""The points of a model that a `BlockStructure` describes."""

from __future__ import annotations

from workbench.engine.block_structure import BlockStructure
from workbench.insides import ATTENTION_KINDS, ModelPoints, Point

LOGITS_POINTS = frozenset([Point("final_norm"), Point("lm_head")])
"""Points after the last layer."""


def structure_points(structure: BlockStructure) -> ModelPoints:
    """Return the points that a decoder over this structure visits."""
    hidden = (structure.hidden,)
    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(
        (
            "embeddings", "resid_pre", "attn_in", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post",
            "final_norm",
        ),
        hidden,
    )  # fmt: skip
    sizes |= {
        "value": (structure.kv_heads, structure.head_dim),
        "attn_scores": (structure.heads,),
        "attn_probs": (structure.heads,),
        "z": (structure.heads, structure.head_dim),
        "mlp_pre": (structure.inner,),
        "mlp_act": (structure.inner,),
        "lm_head": (structure.vocab,),
    }
    missing = {}
    if structure.is_parallel:
        missing["resid_mid"] = "its attention and MLP read the same residual stream, so there is none between them"
    if structure.experts:
        reason = f"each token passes {structure.active_experts} of {structure.experts} experts, each with its own"
        missing |= {"mlp_pre": reason, "mlp_act": reason}
    for kind in missing:
        del sizes[kind]
    return ModelPoints(len(structure.layers), sizes, missing, ATTENTION_KINDS)
