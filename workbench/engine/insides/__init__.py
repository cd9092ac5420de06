"""Reading and changing the numbers inside a forward pass.

A cache carries the `Taps` of its sequence; every decoder visits their points. `step_points` and `prompt_points` find
the numbers of the compiled functions between two of their phases, `replay` computes a text again to read them, `lens`
and `contributions` say what they mean for the next token.
"""
