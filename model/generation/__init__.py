"""Pictures for people: before and after an adapter, and where a picture comes from."""
