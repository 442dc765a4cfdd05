"""The one exception for what a user can put right."""


class UserError(ValueError):
    """Something the user gave cannot work. One sentence: what is wrong and what to do."""
