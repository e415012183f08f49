"""The lake: the tables `events`, `rejected` and `loads`, in the open Delta format."""
