"""The routes of OpenAI's API under ``/v1``, so that its clients work too; the same models behind the same router."""

from __future__ import annotations
