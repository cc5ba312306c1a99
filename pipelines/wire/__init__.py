"""The gRPC contract of shared inference; generated code is touched only here."""
