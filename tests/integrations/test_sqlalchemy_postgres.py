"""Two sessions on PostgreSQL, where its programs and psycopg are found."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import sessionmaker

from orders import Base, Customer
from tiercache import Cache
from tiercache_plugins.integrations.sqlalchemy import QueryCache, cached

pytest.importorskip("psycopg")
MEMORY = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}
NAMES = select(Customer.name)
FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="module")
def server():
    """Return the directory of the socket of a server of its own."""
    initdb = FOUND[-1] if FOUND else shutil.which("initdb")
    if initdb is None or (os.name == "posix" and os.geteuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("there is no PostgreSQL that could be started")
    programs = Path(initdb).resolve().parent
    directory = tempfile.mkdtemp()
    as_another = []
    if os.geteuid() == 0:
        # It refuses to run as root.
        os.chown(directory, 65534, 65534)
        as_another = ["setpriv", "--reuid=65534", "--clear-groups"]

    def run(program, *arguments):
        command = [*as_another, programs / program, "-D", f"{directory}/data", *arguments]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, timeout=90, stdin=quiet, stdout=quiet, stderr=quiet)

    run("initdb", "-A", "trust", "-U", "postgres", "--no-sync")
    run("pg_ctl", "-o", f"-k {directory} -c listen_addresses=", "-w", "start")
    yield directory
    run("pg_ctl", "-m", "fast", "-w", "stop")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(("level", "seen"), [("READ COMMITTED", "Eve"), ("REPEATABLE READ", "Ada")])
def test_what_an_older_snapshot_shows_is_not_stored(server, level, seen):
    url = f"postgresql+psycopg://postgres@/postgres?host={server}"
    engine = create_engine(url, isolation_level=level)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    with Cache.open_sync(MEMORY) as cache:
        queries = QueryCache(cache)
        queries.install(sessions)

        def names():
            with sessions() as session:
                return session.scalars(NAMES, execution_options=cached()).all()

        with sessions.begin() as session:
            session.add(Customer(id=1, name="Ada"))
        with sessions() as old:
            old.scalar(select(Customer.id))
            with sessions.begin() as session:
                session.get(Customer, 1).name = "Eve"
            assert old.scalars(NAMES, execution_options=cached()).all() == [seen]
            assert queries.stats()["snapshot"] == (seen == "Ada")
        assert names() == ["Eve"]
        with sessions() as session:
            inner = session.begin_nested()
            session.execute(update(Customer).values(name="x"))
            inner.rollback()
            session.commit()
        hits = queries.stats()["hits"]
        assert names() == ["Eve"]
        assert queries.stats()["hits"] == hits + 1
    engine.dispose()
