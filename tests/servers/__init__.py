"""Real servers as fixtures, each on free loopback ports, each stopped by whoever started it."""
