"""Tools of a chat: checked definitions, how they stand in the prompt, and the calls in the answer. Nothing runs one."""
