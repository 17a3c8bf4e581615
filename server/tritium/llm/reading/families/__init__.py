"""How each model family writes tool calls and reasoning, a file for each notation."""
