"""What the node asks for: streams, calls and code."""
