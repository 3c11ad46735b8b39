"""The small models that ship with the book: their training, their trajectories, and verification of shipped numbers."""
