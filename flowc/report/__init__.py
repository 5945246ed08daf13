"""What a compilation tells of itself: explanations and its stages as text."""
