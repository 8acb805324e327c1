"""Three tiny specialists and a judge, trained here from generated questions, for tests and the demo."""
