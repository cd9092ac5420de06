"""Tools of a chat: checked definitions, their text in the prompt, and the calls in the answer. No tool is run here."""
