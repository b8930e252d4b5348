"""A work order is plain data: what a worker reads is what the driver wrote."""

from __future__ import annotations

import json

from hypothesis import given

from flowcore.executor import WorkOrder
from flowcore.graph import NO_SETTINGS, Settings
from tests.graph.graphs import any_settings, step


@given(any_settings())
def test_settings_of_an_order_come_back_equal(settings: Settings) -> None:
    order = WorkOrder("run/t#1", "t", step(), {"a": 1}, {}, settings=settings)
    back = WorkOrder.from_json(json.loads(json.dumps(order.to_json())))
    assert back.settings == settings
    assert back.component == order.component


def test_order_without_settings_costs_nothing_for_them() -> None:
    plain = WorkOrder("run/t#1", "t", step(), {"a": 1}, {}).to_json()
    assert plain["settings"] is None
    assert WorkOrder.from_json(plain).settings is NO_SETTINGS
