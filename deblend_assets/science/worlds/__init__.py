"""The worlds that networks are evaluated in: targets in fields as a telescope sees them, their truth and floor."""
