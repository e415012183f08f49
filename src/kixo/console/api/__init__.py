"""The read API of the private port: queries and events, for scripts that hold a read token."""
