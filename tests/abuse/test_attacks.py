"""Every attack is held, disturbs nobody and leaves nothing; and its twin shows that it would work without the boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.abuse import escape, information, resources
from tests.abuse.attacks import PRELUDE, Attack
from tests.abuse.conftest import Neighbour
from tests.support.api import Api
from tests.support.guarded import Guarded

ATTACKS = [*escape.ATTACKS, *information.ATTACKS, *resources.ATTACKS]
BY_GUARD = sorted((attack for attack in ATTACKS if attack.without), key=lambda attack: attack.without)


def shown(result: dict[str, Any]) -> str:
    return f"{result['termination']} {result['exit_code']}\n{result['stdout'][-2000:]}\n{result['stderr'][-2000:]}"


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_is_held(
    attack: Attack, attacked_api: Api, undisturbed: Neighbour, request: pytest.FixtureRequest
) -> None:
    if attack.needs_privilege:
        request.getfixturevalue("privilege")
    result = attacked_api.eval(PRELUDE + attack.code, config=dict(attack.config), **attack.request)
    assert "REACHED" not in result["stdout"], shown(result)
    assert (result["termination"], result["exit_code"]) == attack.verdict, shown(result)
    assert attack.says in result["stdout"], shown(result)


@pytest.mark.twin
@pytest.mark.parametrize("attack", BY_GUARD, ids=str)
def test_its_twin_gets_through(attack: Attack, without: Callable[..., Guarded]) -> None:
    config = attack.config if attack.twin_config is None else attack.twin_config
    result = without(*attack.without).eval(PRELUDE + attack.code, config=dict(config), **attack.request)
    if attack.twin_verdict is None:
        assert "REACHED" in result["stdout"], shown(result)
    else:
        assert (result["termination"], result["exit_code"]) == attack.twin_verdict, shown(result)
