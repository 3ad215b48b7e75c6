"""What a training step and an inference cost, measured side by side with a plain formulation."""
