"""OpenAI's batches on the core's batch runner: a folder each, resumed by whichever server has the state folder."""
