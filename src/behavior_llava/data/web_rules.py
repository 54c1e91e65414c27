"""The web's rules for a program that collects: who may be asked, what is to be heeded, what is no picture.

Who does not want to be collected is heeded, by the header of the answer:
    X-Robots-Tag: noai, noimageai, noindex, noimageindex, none, for all or for "behavior-llava"
        https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag#xrobotstag
        https://github.com/rom1504/img2dataset#opt-out-directives (the same words are its default)
    tdm-reservation: 1
        https://www.w3.org/2022/tdmrep/#sec-tdm-header

Pure: nothing here touches the network. Called by download.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

_OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
_VALUED_RULES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_OUR_ROBOT = "behavior-llava"

PLACEHOLDER_ADDRESSES = (  # host or the end of it, path, source
    ("i.imgur.com", r"/removed\.png", "https://github.com/4pr0n/ripme/issues/13"),
    (
        "yimg.com",
        r"/.*/photo_unavailable\w*\.(png|gif|jpg)",
        "https://github.com/mirror/jdownloader/blob/master/src/jd/plugins/hoster/FlickrCom.java",
    ),
)
"""Where hosts lead to instead of saying 404."""
PLACEHOLDER_MD5 = {
    # imgur, 503 bytes; source: https://github.com/jbsparrow/CyberDropDownloader (managers/client_manager.py)
    "d835884373f4d6c8f24742ceabe74946",
    # reddit, 1048 bytes: "If you are looking for an image, it was probably deleted"; today with a 404;
    # source: https://github.com/cygnusx-1-org/Slide (util/RedditPlaceholderImage.java); hash: public crawlers
    "f17b01901c752c1bb04928131d1661af",
}

HEAD_BYTES = 64
_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), suffix)
    for pattern, suffix in (
        (rb"\xff\xd8\xff", ".jpg"),
        (rb"\x89PNG\r\n\x1a\n", ".png"),
        (rb"GIF8[79]a", ".gif"),
        (rb"RIFF....WEBP", ".webp"),
        (rb"BM.{4}\0{4}", ".bmp"),
        (rb"....ftyp(avif|avis)", ".avif"),
        (rb"....ftyp(hei|hev|mif1|msf1)", ".heic"),
        (rb"....ftypqt", ".mov"),
        (rb"....ftyp", ".mp4"),
        (rb"....(moov|mdat|wide)", ".mov"),
        (rb"\x1a\x45\xdf\xa3.*webm", ".webm"),
        (rb"\x1a\x45\xdf\xa3", ".mkv"),
        (rb"RIFF....AVI ", ".avi"),
        (rb"FLV\x01", ".flv"),
        (rb"OggS\0", ".ogv"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ".wmv"),
        (rb"\0\0\x01\xba", ".mpg"),
    )
)


def suffix_of(head: bytes) -> str | None:
    """The suffix for a file that begins like this; None for what is no image or video of a known kind."""
    return next((suffix for pattern, suffix in _SIGNATURES if pattern.match(head)), None)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_AZURE_HOST = ipaddress.ip_address("168.63.129.16")
"""Answers to virtual machines alone: https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16"""


def is_public(address: str) -> bool:
    """Whether this IP address, or the one it carries inside, is one of the open internet."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.teredo is not None or ip not in _GLOBAL_UNICAST:
            return False
    unfit = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip == _AZURE_HOST
    return ip.is_global and not unfit


def opted_out(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether the headers of an answer say that it is not to be mined; sources: see above."""
    for name, value in headers:
        name, value = name.lower(), value.lower()
        if name == "tdm-reservation" and value.strip() == "1":
            return True
        if name != "x-robots-tag":
            continue
        robot = _OUR_ROBOT  # until a name is given, what is said holds for all
        for part in value.split(","):
            before, colon, after = part.partition(":")
            if colon and before.strip() not in _VALUED_RULES:
                robot, part = before.strip(), after
            if part.strip() in _OPT_OUTS and robot in (_OUR_ROBOT, "*"):
                return True
    return False


def is_placeholder(host: str, path: str) -> bool:
    """Whether this is the address of a "no longer available" picture."""
    return any(
        (host == end or host.endswith("." + end)) and re.fullmatch(pattern, path)
        for end, pattern, _ in PLACEHOLDER_ADDRESSES
    )
