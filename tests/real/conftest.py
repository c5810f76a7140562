"""Fixtures of the tests beside other people's software: the servers that they need."""
