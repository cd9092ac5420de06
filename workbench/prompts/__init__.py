"""From messages to the tokens that a model reads. Needs a tokenizer, and neither torch nor the engine."""
