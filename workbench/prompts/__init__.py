"""Conversion of messages to a model's prompt tokens; needs a tokenizer, but neither torch nor the engine."""
