"""Token counts and speeds of a run in progress."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.records import Usage


@dataclass(slots=True)
class UsageMeter:
    """Token counts of one run; times are seconds since its request."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    kept_tokens: int = 0
    generated_tokens: int = 0
    first_s: float | None = None
    last_s: float = 0.0

    def count(self, elapsed_s: float) -> None:
        """Count one more token, which was generated ``elapsed_s`` seconds after the request."""
        self.generated_tokens += 1
        self.last_s = elapsed_s
        if self.first_s is None:
            self.first_s = elapsed_s

    def usage(self) -> Usage:
        took = self.last_s - (self.first_s or 0.0)
        return Usage(
            prompt_tokens=self.prompt_tokens,
            reused_tokens=self.reused_tokens,
            kept_tokens=self.kept_tokens,
            generated_tokens=self.generated_tokens,
            time_to_first_token_s=self.first_s,
            decode_tokens_per_s=(self.generated_tokens - 1) / took if self.generated_tokens > 1 and took > 0 else None,
        )
