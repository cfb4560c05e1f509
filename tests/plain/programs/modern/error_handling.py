def divide(a, b):
    try:
        return a / b
    except ZeroDivisionError as e:
        print(f"❌ Error: {e}")
        return None
    finally:
        print("finally")


print(divide(1, 0), divide(1, 2))
