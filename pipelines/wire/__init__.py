"""The gRPC contract of shared inference. Only `codec.py` touches the generated code."""
