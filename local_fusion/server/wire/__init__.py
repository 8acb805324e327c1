"""Replies as OpenAI's clients read them, and what routes declare of themselves."""
