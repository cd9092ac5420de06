"""The hazard categories of the MLCommons taxonomy, with the codes and names of Llama Guard 3."""

from __future__ import annotations

from typing import Literal, TypeAlias

Category: TypeAlias = Literal["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13"]
"""Code of a hazard category."""

HAZARDS: dict[Category, str] = {
    "S1": "Violent Crimes",
    "S2": "Non-Violent Crimes",
    "S3": "Sex-Related Crimes",
    "S4": "Child Sexual Exploitation",
    "S5": "Defamation",
    "S6": "Specialized Advice",
    "S7": "Privacy",
    "S8": "Intellectual Property",
    "S9": "Indiscriminate Weapons",
    "S10": "Hate",
    "S11": "Suicide & Self-Harm",
    "S12": "Sexual Content",
    "S13": "Elections",
}
"""Names of the categories by code, in their order."""
