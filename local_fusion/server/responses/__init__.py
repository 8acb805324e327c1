"""Responses: made, run, followed, stored, taken up again after a restart."""
