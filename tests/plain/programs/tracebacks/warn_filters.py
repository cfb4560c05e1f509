import warnings

print([(action, category.__name__) for action, _, category, _, _ in warnings.filters])
