"""What schemathesis is told of this API beyond its description.

A schema cannot say everything: what the clock says, what was sent before, how many bytes a text has. So where schemathesis expects that
whatever fits the description is taken, this expects that it is taken or refused for exactly such a reason, and for no other.
"""

from decimal import Decimal, InvalidOperation

import schemathesis

TAKEN = set(range(200, 400))
# Of the token, of the state of things, of bounds. Whether these are described is for another check to see.
NOT_ABOUT_THE_FORM = {401, 403, 404, 409, 429}

LARGEST = {
    "btc_quantity": 21_000_000,
    "offer_price": 100_000_000_000,
    "price": 100_000_000_000,
    "min_price": 100_000_000_000,
    "max_price": 100_000_000_000,
    "min_quantity": 21_000_000,
    "max_quantity": 21_000_000,
}


def is_an_amount(name, value):
    """Whether a decimal that has the right form is also in range: more than 0, at most 8 decimals, not too large."""
    try:
        # As it went over the wire: the shortest text of a float.
        exact = Decimal(repr(value) if isinstance(value, float) else str(value))
    except InvalidOperation:
        return False
    _, digits, exponent = exact.as_tuple()
    digits = list(digits)
    while digits and digits[-1] == 0:
        digits.pop()
        exponent += 1
    return bool(digits) and -8 <= exponent <= 12 and 0 < exact <= LARGEST[name]


def cannot_be_said(name, given):
    """Whether a field that has the right form may be refused."""
    if name in LARGEST:
        return given is not None and not is_an_amount(name, given)
    if name == "memo":
        return len(given.encode("utf-8", "surrogatepass")) > 120 or any(0xD800 <= ord(c) <= 0xDFFF for c in given)
    # Only the clock knows which times lie in the next 30 days, and whether one is before the other. A cursor belongs to a list with its
    # filters and its order, and an order by price to a list of one currency.
    return name in ("expires_at", "dies_at", "cursor", "sort")


@schemathesis.check
def what_fits_is_taken(ctx, response, case):
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code in TAKEN | NOT_ABOUT_THE_FORM:
        return None
    problem = response.json()
    code = problem["code"]
    # The tag of another version; a key that an earlier request used.
    if (response.status_code, code) in {(412, "sequence_mismatch"), (422, "idempotency_key_reuse")}:
        return None
    # No text is not what the pattern of entity tags allows; schemathesis makes one of it all the same.
    if code == "invalid_header" and "" in [(case.headers or {}).get(name) for name in ("If-Match", "If-None-Match")]:
        return None
    # What the operation is there to say.
    if code in {"not_ready", "not_synced"}:
        return None
    if code in {"validation_failed", "invalid_query"}:
        sent = case.body if code == "validation_failed" else case.query
        wrong = [(error.get("pointer") or error.get("parameter")).lstrip("/") for error in problem["errors"]]
        if wrong and all(name in sent and cannot_be_said(name, sent[name]) for name in wrong):
            return None
    raise AssertionError(f"what fits the description was refused: {problem['code']}: {problem['detail']}")
