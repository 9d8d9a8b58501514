"""What Python code that runs for an Erlang node may use."""
