"""Codes against ccxt's table: nothing that ccxt takes for the network's is a certain refusal here, without a why."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mmdaemon.venues.bitget import codes, endpoints
from mmdaemon.venues.bitget.api import Meaning
from mmdaemon.venues.bitget.codes import meaning
from mmdaemon.venues.ccxt_client import exchange_class
from mmdaemon.venues.emulator import errors
from mmdaemon.venues.emulator.rows import Why

PLACES = [
    endpoints.CLASSIC_PLACE,
    endpoints.CLASSIC_PLACE_BATCH,
    endpoints.UNIFIED_PLACE,
    endpoints.UNIFIED_PLACE_BATCH,
]
CANCELS = [endpoints.CLASSIC_CANCEL, endpoints.UNIFIED_CANCEL, endpoints.UNIFIED_AMEND]
CANCEL_ALLS = [endpoints.CLASSIC_CANCEL_ALL, endpoints.UNIFIED_CANCEL_ALL]
READS = [endpoints.CLASSIC_ORDER, endpoints.UNIFIED_ORDER]
PLACE, CANCEL = endpoints.CLASSIC_PLACE.path, endpoints.CLASSIC_CANCEL.path

CERTAIN = frozenset(Meaning) - {Meaning.UNKNOWN}

# ccxt's InvalidNonce is a NetworkError, so that its users would try again. What it says is that the request was dated
# outside the venue's window: refused at the door, before anything of it was looked at.
CLOCK_AT_CCXT = {"40004", "40005", "40008"}

# What we call otherwise than ccxt's class would have it, and why.
OTHERWISE = {
    "40010": "ccxt: AuthenticationError. The venue's own words: request timed out; look the order up",
    "40708": "ccxt: BadRequest. The venue's own words: client_oid duplicate",
    "40808": "ccxt: InvalidOrder. The venue also says it while it releases a version",
    "40103": "ccxt: BadRequest. The venue's present list: the region; refused either way",
    "40085": "ccxt: PermissionDenied. The other API's account",
    "43025": "ccxt: InvalidOrder. A plan order that does not exist",
}


@cache
def of_ccxt() -> dict[str, list[str]]:
    """Code -> names of its class and those above, for codes of digits."""
    exchange: Any = exchange_class("bitget")()
    return {
        code: [kind.__name__ for kind in error.__mro__]
        for code, error in exchange.exceptions["exact"].items()
        if code.isdigit()
    }


def test_what_ccxt_takes_for_the_network_is_never_a_certain_refusal() -> None:
    seen: set[str] = set()
    for code, kinds in of_ccxt().items():
        if "NetworkError" not in kinds:
            continue
        seen.add(code)
        if code in CLOCK_AT_CCXT:
            assert meaning(code, PLACE) is Meaning.CLOCK
        else:
            assert meaning(code, PLACE) in {Meaning.RATE_LIMIT, Meaning.MAINTENANCE, Meaning.UNKNOWN}, code
            if meaning(code, PLACE) is Meaning.RATE_LIMIT:
                assert {"DDoSProtection", "RateLimitExceeded"} & set(kinds), code
            if meaning(code, PLACE) is Meaning.MAINTENANCE:
                assert "OnMaintenance" in kinds, code
    assert seen >= CLOCK_AT_CCXT
    assert len(seen) > 15


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        ("AuthenticationError", {Meaning.AUTH, Meaning.WRONG_API}),
        ("InsufficientFunds", {Meaning.MARGIN}),
        ("InvalidOrder", {Meaning.REFUSED}),
        ("BadRequest", {Meaning.REFUSED}),
    ],
)
def test_where_both_are_certain_they_agree(kind: str, ours: set[Meaning]) -> None:
    agreed = 0
    for code, kinds in of_ccxt().items():
        if kind not in kinds or "OrderNotFound" in kinds or code in OTHERWISE:
            continue
        said = meaning(code, CANCEL)
        assert said in {*ours, Meaning.UNKNOWN}, (code, said)
        agreed += said is not Meaning.UNKNOWN
    assert agreed >= 4


def test_each_difference_from_ccxt_is_one() -> None:
    for code, why in OTHERWISE.items():
        assert why.startswith(f"ccxt: {of_ccxt()[code][0]}."), code


@pytest.mark.parametrize(
    "code",
    [
        *("40786", "25212", "40708", "43118", "45034", "50060"),  # duplicates
        *("40725", "40015", "40010", "50008", "45001", "40808"),  # ambiguous by the venue's own word
        *("500", "40604", "40200", "25000", "25001", "25003", "40910"),
        *("", "0", "99999", "-1", "4072", "00000", "http_500"),  # nobody knows
    ],
)
def test_what_is_not_certain_is_unknown_on_every_path(code: str) -> None:
    for endpoint in (*PLACES, *CANCELS, *CANCEL_ALLS, *READS):
        assert meaning(code, endpoint.path) is Meaning.UNKNOWN


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("429", Meaning.RATE_LIMIT),
        ("1001", Meaning.RATE_LIMIT),
        ("45129", Meaning.RATE_LIMIT),
        ("40762", Meaning.MARGIN),
        ("43012", Meaning.MARGIN),
        ("25202", Meaning.MARGIN),
        ("25203", Meaning.MARGIN),
        ("45110", Meaning.REFUSED),
        ("45113", Meaning.REFUSED),
        ("45115", Meaning.REFUSED),
        ("41103", Meaning.REFUSED),
        ("40774", Meaning.REFUSED),
        ("22002", Meaning.REFUSED),
        ("25227", Meaning.REFUSED),
        ("25236", Meaning.REFUSED),
        ("40715", Meaning.REFUSED),
        ("40309", Meaning.REFUSED),
        ("40006", Meaning.AUTH),
        ("40009", Meaning.AUTH),
        ("40012", Meaning.AUTH),
        ("40014", Meaning.AUTH),
        ("40018", Meaning.AUTH),
        ("40037", Meaning.AUTH),
        ("40099", Meaning.AUTH),
        ("40004", Meaning.CLOCK),
        ("40008", Meaning.CLOCK),
        ("40084", Meaning.WRONG_API),
        ("40085", Meaning.WRONG_API),
        ("40308", Meaning.MAINTENANCE),
        ("41114", Meaning.MAINTENANCE),
        ("25102", Meaning.MAINTENANCE),
    ],
)
def test_what_is_certain_is_so_on_every_path(code: str, meant: Meaning) -> None:
    for endpoint in (*PLACES, *CANCELS, *CANCEL_ALLS, *READS):
        assert meaning(code, endpoint.path) is meant


@pytest.mark.parametrize("code", ["40109", "40768", "43001", "25204"])
def test_no_such_order_answers_whoever_asked_for_one_and_proves_nothing_of_a_new_one(code: str) -> None:
    assert {meaning(code, endpoint.path) for endpoint in (*CANCELS, *READS)} == {Meaning.NOT_FOUND}
    assert {meaning(code, endpoint.path) for endpoint in CANCEL_ALLS} == {Meaning.NOTHING_TO_CANCEL}
    assert {meaning(code, endpoint.path) for endpoint in PLACES} == {Meaning.UNKNOWN}


@pytest.mark.parametrize("code", ["22001", "43004", "40769", "45031", "45134"])
def test_an_order_that_ended_is_none_to_cancel_and_is_not_absent(code: str) -> None:
    assert {meaning(code, endpoint.path) for endpoint in CANCELS} == {Meaning.NOT_FOUND}
    assert {meaning(code, endpoint.path) for endpoint in CANCEL_ALLS} == {Meaning.NOTHING_TO_CANCEL}
    assert {meaning(code, endpoint.path) for endpoint in (*PLACES, *READS)} == {Meaning.UNKNOWN}


def test_no_code_means_two_things() -> None:
    listed = [code for group in codes._TABLE.values() for code in group.split()]
    listed += [*codes._ABSENT, *codes._ENDED]
    assert len(listed) == len(set(listed)) > 350
    assert all(code.isdigit() for code in listed)


def test_the_codes_of_the_sample_answers_are_read(shared_data: Path) -> None:
    """Those of a current API: five digits from 40000 on, as the samples have them."""
    found: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            for key in ("code", "errorCode"):
                code = value.get(key)
                if isinstance(code, str) and code.isdigit() and int(code) >= 40_000:
                    found.add(code)
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(json.loads((shared_data / "bitget_messages" / "rest_examples.json").read_text()))
    meant = {code: meaning(code, PLACE) for code in found}
    assert meant == {
        "40015": Meaning.UNKNOWN,
        "40017": Meaning.REFUSED,
        "40108": Meaning.REFUSED,
        "40301": Meaning.AUTH,
        "45110": Meaning.REFUSED,
    }


# What each refusal of the emulator's proves, whichever API says it; what is not here is certain to be `REFUSED`.
PROVES = {
    Why.NOT_FOUND: Meaning.NOT_FOUND,
    Why.NOTHING_TO_CANCEL: Meaning.NOT_FOUND,
    Why.DUPLICATE: Meaning.UNKNOWN,
    Why.MARGIN: Meaning.MARGIN,
    Why.SIZE_SCALE: Meaning.UNKNOWN,
    Why.RATE_LIMIT: Meaning.RATE_LIMIT,
    Why.SIGNATURE: Meaning.AUTH,
    Why.KEY: Meaning.AUTH,
    Why.PASSPHRASE: Meaning.AUTH,
    Why.ADDRESS: Meaning.AUTH,
    Why.PERMISSION: Meaning.AUTH,
    Why.ENVIRONMENT: Meaning.AUTH,
    Why.NOT_GRANTED: Meaning.AUTH,
    Why.CLOCK: Meaning.CLOCK,
    Why.CLASSIC_ONLY: Meaning.WRONG_API,
    Why.UNIFIED_ONLY: Meaning.WRONG_API,
    Why.MAINTENANCE: Meaning.UNKNOWN,
    Why.SERVICE: Meaning.UNKNOWN,
    Why.SYSTEM: Meaning.UNKNOWN,
}


@pytest.mark.parametrize("table", [errors.CLASSIC, errors.UNIFIED], ids=["classic", "unified"])
def test_the_emulators_refusals_prove_what_they_should(table: dict[Why, errors.Refusal]) -> None:
    said = {why: meaning(code, CANCEL) for why, (_status, code, _text) in table.items()}
    assert said == {why: PROVES.get(why, Meaning.REFUSED) for why in Why}
