"""What people say of versions, and what follows from it."""
