"""What user code asks of the node, and prints."""
