import decimal

raise decimal.InvalidOperation("from a module")
