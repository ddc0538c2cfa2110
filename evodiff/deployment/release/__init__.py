"""What serves, what is on its way to, and who decides."""
