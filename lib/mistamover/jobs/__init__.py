"""Jobs: what clients ask for, kept in a SQL store, and done by workers. Streams never import this."""
