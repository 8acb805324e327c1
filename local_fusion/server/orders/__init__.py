"""What clients order, and its making: fusions, members, outer models."""
