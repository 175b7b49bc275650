"""Writing preference data: a ranking in, the rows of one form out. Nothing here knows the database."""
