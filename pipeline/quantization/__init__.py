"""What a precision does to a model: ranges, layers kept in FP32, where accuracy is lost, which precision to take."""
