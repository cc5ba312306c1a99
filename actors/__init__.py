"""What runs inside Ray actors: session hosts for calls, inference hosts for models."""
