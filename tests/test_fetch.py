"""
Fetching on a user's behalf: which addresses are refused in whatever spelling, and that the connection goes to the
address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import make_certificate
from support.fault_server import FaultServer
from yarl import URL

from llm_master.fetch import Fetched, fetch
from llm_master.fetch_rules import FetchError, FetchPolicy, place_of, why_refused, without_query

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
NAME = "files.test"
#: Plain HTTP to a loopback server that goes by a name.
LOCAL = FetchPolicy(allow_http=True, private_hosts=frozenset({NAME}), timeout=5)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as found:
        found.default = answer(PNG)
        yield found


def send(data: bytes):
    """A behaviour that sends raw bytes and closes."""

    async def behave(exchange) -> None:
        await exchange.send(data)
        exchange.close()

    return behave


def answer(body: bytes, kind: str = "image/png", status: str = "200 OK", **headers: str):
    head = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return send(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)


def redirect(url: str):
    return answer(b"", "text/plain", "302 Found", Location=url)


def names(**known: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A resolver; each name's addresses are given out one a question, the last one again and again."""
    asked: dict[str, int] = {}

    async def resolve(host: str, _port: int) -> list[str]:
        key = host.replace(".", "_")
        if key not in known:
            raise OSError("no such name")
        asked[host] = asked.get(host, 0) + 1
        return known[key][min(asked[host], len(known[key])) - 1].split()

    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


def get(url: str, policy: FetchPolicy = LOCAL, **options) -> Fetched:
    options.setdefault("resolve", names(files_test=["127.0.0.1"]))
    return asyncio.run(fetch(url, policy, **{"what": "image", **options}))


# Addresses ------------------------------------------------------------------------------------------------------------

REFUSED = {
    "0.0.0.0": "unspecified",
    "10.1.2.3": "private",
    "100.64.0.1": "CGNAT",
    "100.100.100.200": "CGNAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "224.0.0.1": "multicast",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:169.254.169.254": "IPv4-mapped",
    "::ffff:8.8.8.8": "IPv4-mapped",
    "::7f00:1": "IPv4-compatible",
    "64:ff9b::a9fe:a9fe": "NAT64",
    "64:ff9b:1::a00:1": "NAT64",
    "2002:7f00:1::": "6to4",
    "2001:0:7f00:1::": "Teredo",
    "2001:db8::1": "documentation",
    "2606:4700::5efe:7f00:1": "ISATAP",
    "2606:4700:0:0:200:5efe:a00:1": "ISATAP",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "scoped",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "100::1": "reserved",
    "5f00::1": "reserved",
    "nonsense": "unreadable",
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address):
    assert REFUSED[address] in (why_refused(address) or "")


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::8a"]
)
def test_a_public_address_is_not(address):
    assert why_refused(address) is None


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_no_ipv4_address_passes_that_python_calls_private(address):
    if not address.is_global or address.is_multicast:
        assert why_refused(str(address)) is not None
    for carried in (f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}"):
        assert why_refused(carried) is not None
    octets = address.packed.hex()
    assert why_refused(f"2002:{octets[:4]}:{octets[4:]}::1") == "6to4"


@settings(deadline=None)
@given(st.ip_addresses(v=6))
def test_no_ipv6_address_passes_that_python_calls_private(address):
    if not address.is_global or address.is_multicast or address.ipv4_mapped or address.sixtofour or address.teredo:
        assert why_refused(str(address)) is not None
    if why_refused(str(address)) is None:
        assert address in ipaddress.IPv6Network("2000::/3")


def spellings(address: ipaddress.IPv4Address) -> list[str]:
    a, b, c, d = address.packed
    number = int(address)
    return [
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{c << 8 | d}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"{a}.{b}.{c}.{d:#x}",
        f"{a}.{b}.{c}.0{d:o}",
        f"{address}.",
    ]


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_read_in_one_spelling_only(address):
    assert place_of(f"https://{address}/x", FetchPolicy()).is_ip
    for spelt in spellings(address):
        with pytest.raises(FetchError, match="is not fetched"):
            place_of(f"https://{spelt}/x", FetchPolicy())


BAD_URLS = {
    "http://example.com/x": "allow_http",
    "ftp://example.com/x": "only https",
    "file:///etc/passwd": "only https",
    "gopher://example.com": "only https",
    "//example.com/x": "only https",
    "https:///x": "host name",
    "https://user:secret@example.com/x": "user name",
    "https://example.com@127.0.0.1/x": "user name",
    "https://example.com./x": "dot at its end",
    "https://exa mple.com/x": "characters",
    "https://example.com\\@127.0.0.1/x": "characters",
    "https://example.com/\nx": "characters",
    "https://ex\u00e4mple.com/x": "characters",
    "https://\u2460\u2461.com/x": "characters",
    "https://127.0.0.1%2f@x/": "user name",
    "https://%31%32%37.0.0.1/x": "is a number",
    "https://example.com:99999/x": "cannot be read",
    "https://example.com:0/x": "port 0",
    "https://[::1/x": "cannot be read",
    "https://[fe80::1%25eth0]/x": "address",
    "https://[v1.x]/x": "is not an IPv6|cannot be read",
    "https://-a.com/x": "host name",
    "https://[2606:4700::1]x/x": "beside the brackets|cannot be read",
    "https://x[2606:4700::1]/x": "beside the brackets|cannot be read",
}


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_could_mean_something_else_is_refused(url):
    with pytest.raises(FetchError, match=BAD_URLS[url]) as caught:
        place_of(url, FetchPolicy())
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("a1:.[]-_", max_size=12) | st.text("a1:.x]", max_size=3).map("[::1]".__add__))
def test_any_text_is_an_address_or_a_typed_error(text):
    for url in (text, f"https://{text}/x", f"https://example.com/{text}"):
        try:
            place = place_of(url, FetchPolicy())
        except FetchError:
            continue
        assert place.scheme == "https"
        assert not place.host.endswith(".")
        # The client that connects can read it too; where it reads another host, fetch refuses.
        assert URL(url.partition("#")[0], encoded=True).host


def test_only_the_hosts_of_an_allow_list_are_fetched():
    policy = FetchPolicy(hosts=frozenset({"Example.com"}))
    assert place_of("https://EXAMPLE.com/x", policy).host == "example.com"
    with pytest.raises(FetchError, match=r"'other\.com' is not among"):
        place_of("https://other.com/x", policy)
    with pytest.raises(TypeError, match="a set of host names"):
        FetchPolicy(hosts="example.com")  # type: ignore[arg-type]


def test_a_message_holds_no_query_and_no_password():
    assert without_query("https://u:p@h.com/a?sig=1#f") == "https://h.com/a"


# Over a socket --------------------------------------------------------------------------------------------------------


def test_an_image_is_fetched_without_cookies_and_credentials(server):
    server.default = answer(PNG, Set_Cookie="a=b")
    assert get(f"http://{NAME}:{server.port}/cat.png?x=1#top") == Fetched(PNG, "image/png")
    seen = server.requests[0]
    headers = {name.lower(): value for name, value in seen.headers}
    assert headers["host"] == f"{NAME}:{server.port}"
    assert not {"cookie", "authorization", "referer", "proxy-authorization"} & headers.keys()
    assert seen.path == "/cat.png?x=1"


def test_no_proxy_of_the_environment_is_used(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert get(f"http://{NAME}:{server.port}/").data == PNG


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "8.8.8.8 127.0.0.1"])
def test_a_name_with_any_private_address_is_not_connected_to(server, address):
    with pytest.raises(FetchError, match="private_hosts"):
        get(f"http://evil.test:{server.port}/", resolve=names(evil_test=[address]))
    with pytest.raises(FetchError, match="loopback"):
        get(f"http://127.0.0.1:{server.port}/")
    assert server.requests == []


def test_a_name_that_changes_its_meaning_is_asked_once_and_the_checked_address_is_used(server):
    # The second answer would be another address; 127.0.0.2 refuses connections here, so using it would fail.
    resolve = names(files_test=["127.0.0.1", "127.0.0.2"])
    assert get(f"http://{NAME}:{server.port}/", resolve=resolve).data == PNG
    assert resolve.asked == {NAME: 1}


def test_a_name_that_turns_private_between_two_hops_is_refused(server):
    server.script([redirect("/again"), answer(PNG)])
    policy = FetchPolicy(allow_http=True, timeout=5)
    # The first hop is checked against the real rules as well: it goes to a server only through an allowed name.
    resolve = names(files_test=["127.0.0.1"], rebound_test=["169.254.169.254"])
    server.script([redirect(f"http://rebound.test:{server.port}/"), answer(PNG)])
    with pytest.raises(FetchError, match=r"'rebound\.test' is at a link-local address"):
        get(f"http://{NAME}:{server.port}/", resolve=resolve)
    assert len(server.requests) == 1
    with pytest.raises(FetchError, match="loopback"):
        get(f"http://{NAME}:{server.port}/", policy, resolve=resolve)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://127.0.0.1:{port}/", "loopback"),
        ("http://[::1]:{port}/", "loopback"),
        ("http://2130706433:{port}/", "is a number"),
        ("file:///etc/passwd", "only https"),
        ("http://a:b@files.test:{port}/", "user name"),
        ("//gone.test/", "cannot be resolved"),
    ],
)
def test_a_redirect_is_checked_like_the_first_address(server, location, says):
    server.script([redirect(location.format(port=server.port)), answer(PNG)])
    with pytest.raises(FetchError, match=says):
        get(f"http://{NAME}:{server.port}/")
    assert len(server.requests) == 1


def test_redirects_are_followed_and_counted(server):
    server.script([redirect("/b"), redirect("c"), redirect(f"http://{NAME}:{server.port}/d"), answer(PNG)])
    assert get(f"http://{NAME}:{server.port}/a").data == PNG
    assert [seen.path for seen in server.requests] == ["/a", "/b", "/c", "/d"]
    server.script([redirect("/loop")])
    with pytest.raises(FetchError, match="redirects more than 3 times"):
        get(f"http://{NAME}:{server.port}/a")


WRONG = {
    "an HTML page": (answer(b"<html>", "text/html"), "'text/html' and not an image"),
    "another image than it says": (answer(b"only words", "image/png"), "not an image"),
    "a PDF without a type": (answer(b"%PDF-1.7", "application/octet-stream"), "application/pdf"),
    "nothing": (answer(b"", "image/png"), "is empty"),
    "an error": (answer(b"", "text/plain", "404 Not Found"), "status 404"),
    "a compressed answer": (answer(PNG, Content_Encoding="gzip"), "compressed"),
    "too much": (answer(PNG * 100), "larger than 1,000 bytes"),
    "no HTTP": (send(b"SSH-2.0-OpenSSH\r\n"), "BadStatusLine|ServerDisconnected|ClientResponse|ClientOSError"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image_or_too_much_is_refused(server, name):
    server.default, says = WRONG[name]
    policy = FetchPolicy(allow_http=True, private_hosts=frozenset({NAME}), max_bytes=1000)
    with pytest.raises(FetchError, match=says) as caught:
        get(f"http://{NAME}:{server.port}/", policy)
    assert "\n" not in str(caught.value)


def test_the_size_is_counted_and_not_believed(server):
    chunk = b"%x\r\n%s\r\n" % (len(PNG), PNG)
    server.default = send(
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 50 + b"0\r\n\r\n"
    )
    policy = FetchPolicy(allow_http=True, private_hosts=frozenset({NAME}), max_bytes=len(PNG) * 49)
    with pytest.raises(FetchError, match="larger than"):
        get(f"http://{NAME}:{server.port}/", policy)


def test_the_whole_takes_no_longer_than_its_time():
    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(FetchError, match=r"took longer than 0\.02 s"):
        get("https://slow.test/", FetchPolicy(timeout=0.02), resolve=never)


def test_nothing_is_fetched_where_it_is_switched_off(server):
    with pytest.raises(FetchError, match="switched off"):
        get(f"http://{NAME}:{server.port}/", FetchPolicy(allow=False))
    assert server.requests == []


def test_https_keeps_the_name_in_sni_and_never_falls_to_http(server, tmp_path: Path):
    ours, theirs = make_certificate(tmp_path, NAME)
    asked: list[str | None] = []
    theirs.sni_callback = lambda _socket, name, _context: asked.append(name)
    replies = [b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n" + PNG]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(replies[0])
        await writer.drain()
        writer.close()

    async def main(context: ssl.SSLContext | bool) -> Fetched:
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=theirs) as listening:
            port = listening.sockets[0].getsockname()[1]
            resolve = names(files_test=["127.0.0.1"])
            return await fetch(f"https://{NAME}:{port}/a", LOCAL, what="image", resolve=resolve, ssl=context)

    assert asyncio.run(main(ours)).data == PNG
    assert asked == [NAME]
    with pytest.raises(FetchError, match="Certificate"):
        asyncio.run(main(True))
    replies[0] = f"HTTP/1.1 302 Found\r\nLocation: http://{NAME}:{server.port}/\r\nConnection: close\r\n\r\n".encode()
    with pytest.raises(FetchError, match="https address redirects to http"):
        asyncio.run(main(ours))
    assert server.requests == []
