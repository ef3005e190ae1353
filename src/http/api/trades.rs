//! `/trades`: list, show.

use super::{
    page::{Cursor, PageQuery},
    problem::{Code, Problem},
    request::{Id, query},
};
use crate::{
    exchange::State as Market,
    http::types::{Page, TradeView, text},
    identity::ClientId,
    market::TradeId,
    node::Node,
};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use std::ops::Bound::{Excluded, Unbounded};
use uuid::Uuid;

/// List trades
///
/// This node's, as maker and as taker, newest first.
#[utoipa::path(get, path = "/trades", operation_id = "list_trades", tag = "trades",
    params(
        ("limit" = Option<u32>, Query, description = "Entries a page, 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Page<TradeView>)))]
pub(super) async fn list(State(node): State<Node>, raw: RawQuery) -> Result<Json<Page<TradeView>>, Problem> {
    let page = PageQuery::of(&query(raw))?;
    let exchange = node.exchange();
    Ok(Json(trade_page(&exchange.snapshot().state, exchange.client_id(), page)))
}

fn trade_page(state: &Market, me: ClientId, page: PageQuery<Uuid>) -> Page<TradeView> {
    let range = (Unbounded, page.before.map_or(Unbounded, |id| Excluded(TradeId(id))));
    let mut trades = state.trades.range(range).rev().peekable();
    let items: Vec<TradeView> =
        trades.by_ref().take(page.limit).map(|(_, receipt)| TradeView::of(receipt, me)).collect();
    let last = items.last().map(|trade| trade.id.0);
    let more = trades.peek().is_some();
    Page { items, next_cursor: last.filter(|_| more).map(|last| last.write()) }
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
