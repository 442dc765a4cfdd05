"""A reconstruction from counts to result: what was recorded, its items, what comes of them, and the report."""
