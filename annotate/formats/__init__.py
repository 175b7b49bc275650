"""Preference data in the forms that other tools read and write."""
