from ...pkg import VERSION as value
