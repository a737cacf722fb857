"""Configurations, rendered templates and assets."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache import Cache
from tiercache_plugins.integrations import AssetCache, ConfigCache, TemplateCache, files_in

DOCUMENT = {
    "tier": {"memory": {"type": "memory"}},
    "route": {"all": {"tiers": ["memory"], "ttl": "1h"}, "other": {"tiers": ["memory"], "ttl": "1m"}},
}
DOCUMENT["route"]["all"]["default"] = True


def run(scenario):
    async def main():
        async with Cache.open(DOCUMENT) as cache:
            return await scenario(cache)

    return asyncio.run(main())


# Configuration


def test_configurations_are_kept_by_name_and_do_not_end_with_the_route():
    async def scenario(cache):
        configs = ConfigCache(cache)
        await configs.set_config("db", {"port": 1})
        await configs.set_config("feature*", None)
        await cache.set("configure", 1)
        assert await configs.get_config("db") == {"port": 1}
        assert await configs.get_config("feature*", 5) is None
        assert await configs.get_config("absent", 5) == 5
        assert await configs.get_all_configs() == {"db": {"port": 1}, "feature*": None}
        assert await cache.ttl("config:db") == float("inf")
        assert await configs.delete_config("db")
        assert not await configs.delete_config("db")
        assert await configs.get_all_configs() == {"feature*": None}
        await configs.set_config("brief", 1, ttl="5s")
        assert await cache.ttl("config:brief") <= 5

    run(scenario)


@pytest.mark.parametrize("prefix", ["", "a*", "[x]"])
def test_a_prefix_that_globs_would_misread_is_refused(prefix):
    with pytest.raises(ValueError, match="is no prefix"):
        ConfigCache(object(), prefix=prefix)


# Templates

DATA = st.dictionaries(
    st.text(max_size=3),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), st.lists, max_leaves=3),
    max_size=3,
)


@settings(deadline=None, database=None)
@given(one=st.tuples(st.sampled_from("ab"), DATA), other=st.tuples(st.sampled_from("ab"), DATA))
def test_equal_names_and_data_and_only_they_have_one_key(one, other):
    templates = TemplateCache(object())
    # repr tells True from 1, which are equal to each other and not to a template.
    same = one[0] == other[0] and sorted(map(repr, one[1].items())) == sorted(map(repr, other[1].items()))
    assert (templates.key_for(*one) == templates.key_for(*other)) == same


def test_data_are_not_readable_in_keys():
    assert "secret" not in TemplateCache(object()).key_for("mail", {"password": "secret"})


def test_a_template_is_rendered_once_until_it_is_dropped():
    async def scenario(cache):
        templates = TemplateCache(cache)
        rendered = []

        async def renderer(name, data):
            rendered.append((name, data))
            return f"{name} {data['n']}"

        async def page(number, name="page"):
            return await templates.render_template_cached(name, {"n": number}, renderer)

        assert await asyncio.gather(*[page(1) for _ in range(5)]) == ["page 1"] * 5
        assert await page(2) == "page 2"
        assert await page(1, "mail") == "mail 1"
        assert rendered == [("page", {"n": 1}), ("page", {"n": 2}), ("mail", {"n": 1})]
        await templates.invalidate_template("page")
        assert [await page(1), await page(2), await page(1, "mail")] == ["page 1", "page 2", "mail 1"]
        assert len(rendered) == 5
        assert templates.stats() == {"prefix": "template:", "asked": 10, "rendered": 5}

    run(scenario)


def test_versions_are_apart_and_renderers_may_be_plain():
    async def scenario(cache):
        for version in (1, 2):
            templates = TemplateCache(cache, version=version)
            made = await templates.render_template_cached("page", {}, lambda name, data, v=version: f"v{v}")
            assert made == f"v{version}"

    run(scenario)


def test_data_that_make_no_key_are_refused_and_nothing_is_rendered():
    async def scenario(cache):
        with pytest.raises(TypeError, match="the data of template 'page' make no key"):
            await TemplateCache(cache).render_template_cached("page", {"user": object()}, None)

    run(scenario)


def test_dataclasses_are_data():
    @dataclass
    class User:
        name: str

    templates = TemplateCache(object())
    assert templates.key_for("p", {"u": User("a")}) == templates.key_for("p", {"u": User("a")})
    assert templates.key_for("p", {"u": User("a")}) != templates.key_for("p", {"u": User("b")})


# Assets


def test_an_asset_is_loaded_once_with_its_entity_tag():
    async def scenario(cache):
        assets = AssetCache(cache)
        loaded = []

        async def loader(path):
            loaded.append(path)
            return b"body"

        found = [await assets.get_asset("/img/logo.png", loader) for _ in range(3)]
        assert loaded == ["/img/logo.png"]
        digest = hashlib.sha256(b"body").hexdigest()
        assert found[2].content == b"body"
        assert found[2].etag == f'"{digest[:32]}"'
        assert found[2].immutable_path == f"/img/logo.{digest[:16]}.png"
        assert await assets.get_asset_cached("/img/logo.png", loader) == b"body"
        assert await assets.invalidate_asset("/img/logo.png")
        await assets.get_asset("/img/logo.png", loader)
        assert assets.stats() == {"prefix": "asset:", "asked": 5, "loaded": 2}

    run(scenario)


def test_who_has_the_content_is_told_so():
    async def scenario(cache):
        asset = await AssetCache(cache).get_asset("a.css", lambda path: b"x")
        for header in (asset.etag, f"W/{asset.etag}", f'"other", {asset.etag}', "*"):
            assert asset.matches(header)
        for header in (None, "", '"other"', asset.etag.strip('"')):
            assert not asset.matches(header)

    run(scenario)


def test_what_a_loader_fails_at_is_not_cached():
    async def scenario(cache):
        assets = AssetCache(cache)

        async def missing(path):
            raise FileNotFoundError(path)

        with pytest.raises(FileNotFoundError):
            await assets.get_asset_cached("a", missing)
        with pytest.raises(TypeError, match="brought str, not bytes"):
            await assets.get_asset_cached("a", lambda path: "text")
        assert await assets.get_asset_cached("a", lambda path: b"now") == b"now"

    run(scenario)


@pytest.mark.parametrize(
    "path",
    [
        "../etc/passwd", "/../x", "/a/../../x", "/a/..", "..", ".", "", "/", "//etc/passwd", "/a//b",
        "/a/./b", "/a\x00b", "/a%00b", "/a\nb",
        "/%2e%2e/x", "/%252e%252e/x", "/a%2f..%2fx", "/a/..%5cx", "..\\x", "C:/x",
        "/%25252525252e%2e/x",
    ],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused_before_anything_is_asked(path):
    async def scenario(cache):
        with pytest.raises(ValueError, match="accepted"):
            await AssetCache(cache).get_asset_cached(path, None)
        assert [key async for key in cache.keys()] == []

    run(scenario)


def test_files_are_read_from_their_directory_alone(tmp_path):
    (tmp_path / "public/css").mkdir(parents=True)
    (tmp_path / "public/css/a.css").write_bytes(b"in")
    (tmp_path / "secret").write_bytes(b"out")
    loader = files_in(tmp_path / "public")
    wrong = ["../secret", "/%2e%2e/secret"]
    if hasattr(os, "symlink") and os.name != "nt":
        (tmp_path / "public/link").symlink_to(tmp_path / "secret")
        wrong.append("link")

    async def main():
        assert await loader("/css/a.css") == b"in"
        assert await loader("css/a.css") == b"in"
        for path in wrong:
            with pytest.raises(ValueError, match="accepted"):
                await loader(path)
        with pytest.raises(FileNotFoundError):
            await loader("css/b.css")

    asyncio.run(main())
