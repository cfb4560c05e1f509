import unittest.mock as mock

with mock.patch("builtins.print") as fake:
    print("hidden")
print(fake.call_args, mock.MagicMock(name="m").foo(1)._mock_name if False else "ok")
