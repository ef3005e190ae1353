"""The README's tour by a client that openapi-python-client made: tour.py DIRECTORY_OF_THE_CLIENT MAKER OTHER TAKER

Knows nothing of the API but what the generated client says: its functions, its types, its fields.
"""

import sys
import time
from pathlib import Path

package = Path(sys.argv[1])
sys.path.insert(0, str(package.parent))

from made import Client  # noqa: E402
from made.api.bids import list_bids, place_bid, show_bid  # noqa: E402
from made.api.node import healthz, metrics, readyz, recover_node, show_node  # noqa: E402
from made.api.offers import create_offer, list_offers, show_offer, withdraw_offer  # noqa: E402
from made.api.trades import list_trades, show_trade  # noqa: E402
from made.models import (  # noqa: E402
    BidStatus,
    BidView,
    EmptyBody,
    NewBidBody,
    NewOfferBody,
    OfferStatus,
    OfferView,
    ProblemView,
    RecoveredView,
    Role,
    Side,
)

PATIENCE_S = 30

maker, other, taker = (
    Client(base_url=url, raise_on_unexpected_status=True, httpx_args={"trust_env": False}) for url in sys.argv[2:5]
)


def until(what, get):
    started = time.monotonic()
    while not (found := get()):
        assert time.monotonic() - started < PATIENCE_S, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def is_a(kind, answer):
    assert isinstance(answer, kind), answer
    return answer


def refused(answer, status, code):
    problem = is_a(ProblemView, answer)
    assert (problem.status, problem.code) == (status, code), problem
    return problem


# Create: text, a number, and one that Python writes with an exponent.
made = is_a(OfferView, create_offer.sync(client=maker, body=NewOfferBody(btc_quantity="0.5", offer_price="64000")))
assert (made.status, made.side, made.btc_quantity, made.mine) == (OfferStatus.OPEN, Side.SELL, "0.5", True), made
small = NewOfferBody(btc_quantity=0.00005, offer_price=64000.5, side=Side.BUY, currency="EUR", memo="by Python")
small = is_a(OfferView, create_offer.sync(client=maker, body=small, idempotency_key=f"python-{made.id}"))
assert (small.btc_quantity, small.offer_price, small.memo) == ("0.00005", "64000.5", "by Python"), small
assert made.expires_at > made.created_at and made.dies_at > made.expires_at

# List and page, on another node.
until("the offers to be listed", lambda: {made.id, small.id} <= {o.id for o in list_offers.sync(client=other).items})
seen, page = [], list_offers.sync(client=other, limit=1)
while True:
    assert len(page.items) <= 1
    seen += [offer.id for offer in page.items]
    if page.next_cursor is None:
        break
    page = list_offers.sync(client=other, limit=1, cursor=page.next_cursor)
assert len(seen) == len(set(seen)) and {made.id, small.id} <= set(seen), seen
cheap = list_offers.sync(client=other, side=Side.BUY, currency="EUR", max_quantity="5e-05", mine=False)
assert [offer.id for offer in cheap.items if offer.id == small.id] and made.id not in [o.id for o in cheap.items]

# Bid, from a third.
until("the taker to hold the offer", lambda: isinstance(show_offer.sync(str(made.id), client=taker), OfferView))
low = refused(place_bid.sync(str(made.id), client=taker, body=NewBidBody(price=63999.99)), 409, "price_below_ask")
assert not low.retryable
refused(place_bid.sync(str(made.id), client=maker, body=NewBidBody()), 409, "own_offer")
other_version = refused(place_bid.sync(str(made.id), client=taker, body=NewBidBody(sequence=1)), 409, "terms_changed")
assert other_version.offer.sequence == made.sequence, other_version
other_tag = place_bid.sync(str(made.id), client=taker, body=NewBidBody(), if_match='"1"')
refused(other_tag, 412, "sequence_mismatch")
as_seen = NewBidBody(sequence=made.sequence, side=made.side, btc_quantity="0.5", price="64000", wait_ms=20000)
bid = is_a(BidView, place_bid.sync(str(made.id), client=taker, body=as_seen))
assert (bid.status, bid.price, bid.trade.role) == (BidStatus.ACCEPTED, "64000", Role.TAKER), bid
assert show_bid.sync(bid.id, client=taker) == bid
assert [entry.id for entry in list_bids.sync(str(made.id), client=maker).items] == [bid.id]
assert show_trade.sync(bid.trade_id, client=maker).signatures == bid.trade.signatures
assert bid.trade_id in [trade.id for trade in list_trades.sync(client=taker).items]
until("the sale to be known", lambda: show_offer.sync(str(made.id), client=other).status == OfferStatus.CLOSED)
refused(place_bid.sync(str(made.id), client=other, body=NewBidBody()), 409, "offer_not_available")

# Withdraw.
refused(withdraw_offer.sync(str(small.id), client=maker, if_match='"1"'), 412, "sequence_mismatch")
gone = is_a(OfferView, withdraw_offer.sync(small.hash_, client=maker, if_match=f'"{small.sequence}"'))
assert gone.status == OfferStatus.WITHDRAWN, gone
refused(withdraw_offer.sync(str(small.id), client=maker), 409, "offer_closed")

# Read a problem field by field.
wrong = refused(
    create_offer.sync(client=maker, body=NewOfferBody(btc_quantity="-1", offer_price=0)), 422, "validation_failed"
)
assert {error.pointer for error in wrong.errors} == {"/btc_quantity", "/offer_price"}, wrong
refused(show_offer.sync("00000000-0000-7000-8000-000000000000", client=maker), 404, "offer_not_found")
refused(show_offer.sync("nonsense", client=maker), 400, "invalid_id")

# The rest of the operations.
assert healthz.sync(client=maker).status == "ok" and readyz.sync(client=maker).status == "ready"
node = show_node.sync(client=maker)
assert node.ready and node.client_id == made.client_id, node
assert is_a(RecoveredView, recover_node.sync(client=maker, body=EmptyBody())).recovered == 0
assert "vintner_api_requests_total" in metrics.sync_detailed(client=maker).content.decode()
print("the tour is done")
