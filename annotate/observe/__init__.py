"""What the site tells the people who run it: logs, metrics, and whether it is well."""
