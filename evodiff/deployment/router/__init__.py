"""The router: requests to versions, versions to workers, and what is measured on the way."""
