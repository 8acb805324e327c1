"""Which arrangement of these models is best, found by measuring; into `models.yaml`, with the evidence beside it."""
