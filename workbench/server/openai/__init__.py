"""Routes of OpenAI's API under ``/v1`` for its clients, with the same models and the same router."""

from __future__ import annotations
