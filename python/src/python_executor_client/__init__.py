"""Run Python on a python-executor server, isolated from your machine and from everybody else's code.

Example:
    from python_executor_client import PythonExecutorClient

    client = PythonExecutorClient("http://pyexec.cluster:9999/")

    # Execute code from a dict of files
    result = client.execute_sync(
        files={"main.py": "print('Hello, World!')"},
        entrypoint="main.py"
    )

    print(result.stdout)     # Hello, World!
    print(result.exit_code)  # 0
"""

from importlib.metadata import version

from .client import PythonExecutorClient
from .types import ExecutionConfig, ExecutionResult, ExecutionStatus, Metadata

__all__ = ["ExecutionConfig", "ExecutionResult", "ExecutionStatus", "Metadata", "PythonExecutorClient"]
__version__ = version("python-executor-client")
