"""What each of Bitget's error codes proves.

Sources: the venue's lists of codes for both APIs, its place-order page and questions page (which name the codes after
which the order must be looked up), ccxt's `exceptions`, sample answers. Where they differ, the less certain one rules.
A code that is in no list here proves nothing, and is UNKNOWN: the order may be there.
"""

from collections.abc import Mapping
from typing import Final

from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Meaning

# Listed, although it changes nothing, so that nobody files them as refusals.
_AMBIGUOUS: Final = (
    "40010 40725 45001 "  # timed out, service error, unknown error: "query by clientOid to confirm the final result"
    "40015 40808 "  # said while the venue releases a version; 40808 is also "parameter verification", of a scale
    "500 40604 40200 "  # system busy, server busy, server upgrade: by whom, and how far it got, is not said
    "50008 40910 25001 25000 25003 40908 "  # network time-out, timed out, system error, concurrent operation
    "40786 25212 40708 43118 45034 50060 "  # duplicate client id: the order of that id is, or was, there
    "43002 43003 45023 45024 70229 "  # failed, without saying of what or before what
    "45055 25113 25653"  # of a cancel: not in this state; cancel in progress; the order has been changed
)

_TABLE: Final[Mapping[Meaning, str]] = {
    Meaning.RATE_LIMIT: (
        "429 1001 25004 50009 70228 "
        "45129 "  # the same order is cancelled once a second
        "25272 25572 "  # too many pending modifications
        "22035 40918"  # opens too frequently: demo accounts, copy traders
    ),
    Meaning.MARGIN: ("40711 40712 40754 40762 40798 40800 43012 45002 45004 45008 50020 25202 25203 25219 25220"),
    Meaning.AUTH: (
        "40001 40002 40003 40006 40009 40011 40012 40036 40037 40041 "  # key, signature, passphrase
        "40014 40016 40040 40301 25620 "  # permission
        "40018 40038 22010 "  # address
        "40099 "  # a live key in the demo environment, or the other way about
        "40000 40013 40022 40023 40025 40026 40031 40035 25005"  # the user or the region
    ),
    Meaning.CLOCK: "40004 40005 40008 40078 40911",
    Meaning.WRONG_API: "40084 40085 40128 25245",
    # Of the trading pair or the account, and checked before an order is taken. "Server upgrade" is not among them.
    Meaning.MAINTENANCE: "40308 40844 41113 41114 43115 43119 43120 45043 22056 25101 25102 25103 25106 25108 40115",
    Meaning.REFUSED: (
        "00001 00171 00172 400172 40007 40017 40019 40020 40034 40072 40102 40103 40304 40305 40306 40402 40404 "
        "40409 40724 40779 40805 40806 40811 40812 40813 40822 40924 40925 41101 43011 43123 45026 "
        "25002 25200 25201 25238 25240 "  # a parameter
        "40309 40845 25100 25104 25105 25107 22004 22005 22036 22037 22069 22070 25013 45107 45108 45119 500024 "
        "40710 40760 43112 45009 25006 25007 25008 25012 95001 70227 "  # may not trade
        "40706 40787 40815 40816 40820 40821 41103 41117 41118 43008 43009 43028 43039 43040 45035 45115 50018 "
        "22006 22007 22046 22047 25205 25206 25244 25654 25655 "  # price
        "40108 43006 43007 43010 43027 43037 43038 43041 43042 45110 45111 45112 45113 45114 22034 22038 "
        "25207 25208 25241 25611 "  # size and value
        "40715 40723 40761 40763 43005 45010 45116 45118 45121 45123 45133 22029 22048 22049 25209 22045 25210 25211 "
        "25213 25214 25215 25216 25218 25223 25229 25230 25233 25234 25235 25243 25567 40930 70223 "  # how many
        "22002 22033 22042 22057 40756 40757 40758 40774 40775 40804 40827 40928 40931 40939 45003 45005 45006 45007 "
        "45014 45018 45020 45109 25225 25226 25227 25231 25232 25236 25237 25242 25274 25574 "  # reduce-only, position
        "22003 40922 40923 25114 25271 25273 25568 25569 25571 25573 "  # an amendment
        # stops
        "40735 40736 40737 40738 40739 40740 40741 40742 40829 40830 40831 40832 40833 40834 40835 40836 40889 40890 "
        "40891 40895 40915 40917 45051 45052 45060 45062 45064 45065 45066 45067 45068 45122 45127 45135 "
        "25579 25580 25581 25582 25583 25584 25585 25586 25587 25588 25589 25590 25591 25592 25593 25594 25595 25596 "
        "25598 25599 25600 25601 25602 25603 25604 25605 25606 25607 25608 25609 25610 25612 25650 25651 25652 "
        "40303 40704 40705 40707 42072 "  # what a read may ask for
        "22020 22054 22055 22071 22072 40814 40893 40914 40920 45044 45045 45054 45097 45100 45101 45117 25009 25010 "
        "25228"  # leverage, margin mode, position mode
    ),
    Meaning.UNKNOWN: _AMBIGUOUS,
}
_MEANINGS: Final = {code: meaning for meaning, codes in _TABLE.items() for code in codes.split()}

_ABSENT: Final = frozenset(("40109", "40768", "40819", "43001", "45057", "25204", "24056", "43020", "43025", "25597"))
"""There is no such order."""
_ENDED: Final = frozenset(("22001", "43004", "40769", "45031", "45134"))
"""There is none to cancel: completed, filled or cancelled already. Said of nothing but a cancel or an amendment."""

_PLACES: Final = frozenset(
    endpoint.path
    for endpoint in (
        endpoints.CLASSIC_PLACE,
        endpoints.CLASSIC_PLACE_BATCH,
        endpoints.UNIFIED_PLACE,
        endpoints.UNIFIED_PLACE_BATCH,
    )
)
_CANCELS: Final = frozenset(
    endpoint.path for endpoint in (endpoints.CLASSIC_CANCEL, endpoints.UNIFIED_CANCEL, endpoints.UNIFIED_AMEND)
)
_CANCEL_ALLS: Final = frozenset(endpoint.path for endpoint in endpoints.CANCEL_ALLS)


def meaning(code: str, path: str) -> Meaning:
    """What a code proves about a request to `path`.

    "No such order" is an answer to whoever asked for one; to a request that places one it is nonsense, and proves
    nothing.
    """
    if code in _ABSENT or code in _ENDED:
        if path in _CANCEL_ALLS:
            return Meaning.NOTHING_TO_CANCEL
        says_so = path not in _PLACES if code in _ABSENT else path in _CANCELS
        return Meaning.NOT_FOUND if says_so else Meaning.UNKNOWN
    return _MEANINGS.get(code, Meaning.UNKNOWN)
