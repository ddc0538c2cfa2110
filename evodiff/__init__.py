"""evodiff."""
