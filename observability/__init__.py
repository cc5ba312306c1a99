"""Events and what is made of them: metrics, spans, logs."""
