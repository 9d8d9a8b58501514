"""The port program: Python beside an Erlang node."""
