"""The price archive in the history's bucket: the same archive, over S3, with the history's endpoint and keys."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from runbook.eci.prices import PriceRow
from runbook.history import price_archive
from runbook.history.price_archive import Rows
from runbook.settings import Settings
from sandbox.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore

ROW = PriceRow("cn", "cn-hangzhou", "CNY", "general", "vcpu", Decimal("0.00005"), date(2026, 11, 24), "eci:X")


def test_an_archive_in_the_historys_bucket(tmp_path: Path) -> None:
    """The card's `cost.prices` may be a folder of a bucket; it is opened as the history's, and read back whole."""
    (tmp_path / "id").write_text(ACCESS_KEY)
    (tmp_path / "secret").write_text(SECRET_KEY)
    with ObjectStore(tmp_path / "store") as server:
        server.make_bucket("ci-archive")
        card = {
            "name": "bucket",
            "region": "cn-hangzhou",
            "cache": {"enabled": False},
            "gitlab": {"url": "https://gitlab.example.com"},
            "runner": {},
            "pods": {},
            "smoke": {"project": "ops/smoke"},
            "history": {
                "url": "s3://ci-archive/history",
                "endpoint": server.endpoint,
                "region": "us-east-1",
                "access_key_id": f"file:{tmp_path}/id",
                "access_key_secret": f"file:{tmp_path}/secret",
            },
            "cost": {"prices": "s3://ci-archive/prices"},
        }
        archive = price_archive.open_archive(Settings.parse(card, where="card.yaml"))
        assert archive.rows() == Rows()
        for second in (1, 2):
            archive.append(Rows(items=(ROW,)), datetime(2026, 11, 24, 8, 0, second, tzinfo=UTC))
        assert archive.rows().items == (ROW, ROW)
        assert (archive.state().place, archive.state().files) == ("s3://ci-archive/prices", 2)
