"""Documents as context: uploaded or inline files become text, once each, at the very beginning of the prompt."""
