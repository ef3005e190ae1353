//! `/trades`: list, show.

use super::{
    docs,
    fields::{Fields, choice, instant, parsed},
    page::PageQuery,
    problem::{Code, Problem},
    request::{Id, query},
};
use crate::{
    exchange::{Span, State as Market, TradesWanted},
    http::types::{Page, Role, TradeView, text},
    identity::ClientId,
    market::{Side, TradeId},
    node::Node,
    time::UnixMillis,
};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use uuid::Uuid;

/// List trades
///
/// This node's, as maker and as taker, newest first (by `executed_at`, then by id). All filters are answered from indexes, so a page is
/// as long as `limit` allows.
#[utoipa::path(get, path = "/trades", operation_id = "list_trades", tag = "trades",
    params(
        ("role" = inline(Option<Role>), Query, description = "Only those in which this node made the offer, or the bid"),
        ("side" = inline(Option<crate::http::types::Side>), Query, description = "Only those in which the maker did this, as the field `side` says"),
        ("currency" = Option<text::CurrencyCode>, Query, description = "Only those in this currency, such as `USD`"),
        ("since" = Option<text::GivenTime>, Query, description = docs::SINCE),
        ("until" = Option<text::GivenTime>, Query, description = docs::UNTIL),
        ("limit" = Option<u32>, Query, description = "Entries a page, 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = docs::CURSOR),
    ),
    responses((status = 200, description = "One page", body = Page<TradeView>)))]
pub(super) async fn list(State(node): State<Node>, raw: RawQuery) -> Result<Json<Page<TradeView>>, Problem> {
    let wanted = TradeQuery::read(&query(raw))?;
    let exchange = node.exchange();
    Ok(Json(wanted.page(&exchange.snapshot().state, exchange.client_id())))
}

/// A list of trades, and which page of it.
#[derive(Clone, Copy, Debug)]
struct TradeQuery {
    wanted: TradesWanted,
    page: PageQuery<(UnixMillis, TradeId)>,
}

impl TradeQuery {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut fields = Fields::of_query(query)?;
        let sides = [("sell", Side::Sell), ("buy", Side::Buy)];
        let wanted = TradesWanted {
            as_maker: fields.optional("role", |text| choice(&text, &[("maker", true), ("taker", false)])),
            side: fields.optional("side", |text| choice(&text, &sides)),
            currency: fields.optional("currency", parsed),
            span: Span {
                since: fields.optional("since", |text| instant(&text)),
                until: fields.optional("until", |text| instant(&text)),
            },
        };
        let page = PageQuery::take(&mut fields, &("trades", wanted));
        fields.finish()?;
        Ok(Self { wanted, page })
    }

    fn page(&self, state: &Market, me: ClientId) -> Page<TradeView> {
        let mut trades = state.lists.trades(self.wanted, self.page.before);
        let found = trades.by_ref().take(self.page.limit).filter_map(|id| state.trades.get(&id));
        let items: Vec<TradeView> = found.map(|receipt| TradeView::of(receipt, me)).collect();
        let last = items.last().map(|trade| (trade.executed_at.0, trade.id));
        let more = trades.next().is_some();
        Page { items, next_cursor: last.filter(|_| more).map(|last| self.page.cursor(&last)) }
    }
}

/// Show a trade
///
/// With both signatures, so that anybody can check it.
#[utoipa::path(get, path = "/trades/{id}", operation_id = "show_trade", tag = "trades",
    params(("id" = text::GivenId, Path, description = "The trade's id")),
    responses((status = 200, description = "The trade", body = TradeView)))]
pub(super) async fn show(State(node): State<Node>, Id(id): Id<Uuid>) -> Result<Json<TradeView>, Problem> {
    let snapshot = node.exchange().snapshot();
    let receipt = snapshot.state.trades.get(&TradeId(id)).ok_or_else(|| {
        Problem::new(
            Code::TradeNotFound,
            format!("this node has no trade {id}; list them with /api/v1/trades"),
        )
    })?;
    Ok(Json(TradeView::of(receipt, node.exchange().client_id())))
}
