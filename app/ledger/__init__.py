"""The log's mathematics: what an entry is, byte for byte. Pure; where it is kept is storage's."""
