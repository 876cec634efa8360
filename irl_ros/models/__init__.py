"""Features, rewards and policies: torch for learning, numpy for control."""
