"""Terms as bytes and back: the External Term Format, MessagePack and JSON."""
