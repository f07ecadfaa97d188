"""The store: jobs, objects, endpoints, tokens and events in one SQL database. Moves no bytes, speaks to no client."""
